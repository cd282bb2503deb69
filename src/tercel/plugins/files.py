"""Tasks on files: LocalFiles."""

from tercel.plugin_api import Dynamic, Outputs, RunContext, RunnableTask, plugin


@plugin("io.kestra.plugin.core.storage.LocalFiles", aliases=["io.kestra.core.tasks.storages.LocalFiles"])
class LocalFiles(RunnableTask, frozen=True, kw_only=True):
    """Write files into the working directory, then capture files from it; nothing is taken out of it.

    Attributes:
        inputs: as `inputFiles` of a WorkingDirectory.
        outputs: globs, as `outputFiles`.

    Outputs:
        uris: relative path to address of each captured file.
        outputFiles: the same.
    """

    inputs: dict[str, object] | Dynamic | None = None
    outputs: list[Dynamic] | Dynamic = []

    def run(self, context: RunContext) -> Outputs:
        """Write, then capture."""
        context.write_input_files(self.inputs)
        uris = context.capture(self.outputs)
        if self.outputs:
            context.logger.debug(f"{len(uris)} file{'s' * (len(uris) != 1)} captured")
        return Outputs(uris=uris, outputFiles=uris)
