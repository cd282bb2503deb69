"""git.PushFlows: the flows of a namespace, as files on a branch."""

from tercel.errors import InvalidFlowError
from tercel.plugin_api import Dynamic, FlowSource, Outputs, RunContext, TaskFailedError, is_on, plugin
from tercel.plugins.git.flow_files import FlowChoice, add_flows, in_namespace, is_flow_file, placed, stem_for, stem_of
from tercel.plugins.git.pushing import Changes, PushTask, folder_changes, repository_folder


@plugin("io.kestra.plugin.git.PushFlows")
class PushFlows(PushTask, frozen=True, kw_only=True):
    """Commit the flows of a namespace to a remote branch, one file each.

    Attributes:
        source_namespace: whose flows are pushed; that of this flow where left out.
        target_namespace: what is written into their files as `namespace` instead of *sourceNamespace*.
        include_child_namespaces: flows of namespaces below it, too; each such namespace has a folder of its own.
        flows: globs that fit a flow's id, or the path of its file; all flows where left out.
        git_directory: the folder of the repository that holds them.
        delete: remove the files of flows that *flows* fits and that the namespace does not have.

    Outputs:
        flows: URI of the diff: a row with `file`, `change` (CREATED, UPDATED, DELETED), `additions`, `deletions` and
            `changes` (lines; null where it is no text) for each file that the commit changes.

    Example:
        tasks:
          - id: push
            type: io.kestra.plugin.git.PushFlows
            url: https://git.example.com/team/flows.git
            branch: develop
            username: robot
            password: "{{ secret('GIT_TOKEN') }}"
            sourceNamespace: company.team
            includeChildNamespaces: true
            commitMessage: "Flows of {{ now() }}"
    """

    source_namespace: Dynamic = "{{ flow.namespace }}"
    target_namespace: Dynamic | None = None
    include_child_namespaces: bool | Dynamic = False
    flows: list[Dynamic] | Dynamic | None = None
    git_directory: Dynamic = "_flows"
    delete: bool | Dynamic = True

    def run(self, context: RunContext) -> Outputs:
        """Commit and push."""
        source = context.render(self.source_namespace).strip()
        target = source if self.target_namespace is None else context.render(self.target_namespace).strip()
        folder = repository_folder(context, self.git_directory)
        with_children, deletes = is_on(context, self.include_child_namespaces), is_on(context, self.delete)
        choice = FlowChoice([] if self.flows is None else context.render_list(self.flows))
        message = self.message(context, f"Add flows from {source} namespace")
        texts = {
            stem: _moved(one, source, target)
            for one in context.engine.saved_flows(source, with_children=with_children)
            if choice.takes(stem := stem_for(one, source))
        }
        if not texts:
            context.logger.warn(f"The namespace {source!r} has no flow that is to be pushed.")
        with self.open_repository(context) as repository:
            entries = dict(zip(texts, add_flows(repository, list(texts.values())), strict=True))

            def is_outdated(path: str) -> bool:
                return deletes and is_flow_file(path, with_children=with_children) and choice.takes(stem_of(path))

            def plan(commit: str | None) -> Changes:
                files = placed(entries, list(repository.files(commit, folder)))
                return folder_changes(repository, commit, folder, files, is_outdated)

            return self.push(context, repository, plan, message).outputs(context, "flows")


def _moved(flow: FlowSource, source: str, target: str) -> str:
    """The flow's text with the namespace *target*, or below it, in place of *source*."""
    if target == source:
        return flow.source
    try:
        return in_namespace(flow.source, target + flow.namespace[len(source) :])
    except InvalidFlowError as error:
        raise TaskFailedError(
            f"The flow {flow.id!r} of the namespace {flow.namespace!r} cannot be given another one: {error}"
        ) from error
