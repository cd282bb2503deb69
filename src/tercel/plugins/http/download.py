"""core.http.Download: an answer as a file."""

from tercel.plugin_api import Dynamic, Outputs, RunContext, TaskFailedError, is_on, plugin
from tercel.plugins.http.answer import file_name, headers_of, save
from tercel.plugins.http.task import HttpTask


@plugin(
    "io.kestra.plugin.core.http.Download",
    aliases=["io.kestra.plugin.fs.http.Download"],
)
class Download(HttpTask, frozen=True, kw_only=True):
    """Fetch a file by HTTP into internal storage, streamed.

    Proxy and trusted certificates are those of the worker's environment (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`)
    unless *options* say otherwise. Which hosts may be asked is up to the worker's administrator.

    Attributes:
        fail_on_empty_response: an empty answer fails the task instead of being a warning.

    Outputs:
        uri: the file in internal storage.
        code: the status.
        length: bytes of the file.
        headers: name to list of values; names as the server writes them, and in lower case.

    Example:
        tasks:
          - id: orders
            type: io.kestra.plugin.core.http.Download
            uri: https://files.example/datasets/orders.csv
          - id: size
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.orders.uri }} has {{ outputs.orders.length }} bytes."
    """

    fail_on_empty_response: bool | Dynamic = True

    def run(self, context: RunContext) -> Outputs:
        """Stream the answer into internal storage."""
        with self.response(context) as response:
            content = self.content_of(response, context)
            if content.is_at_end():
                if is_on(context, self.fail_on_empty_response):
                    raise TaskFailedError(
                        "No response from server: the body is empty.", "Set failOnEmptyResponse: false to accept that."
                    )
                context.logger.warn("The server's response is empty.")
            uri = save(content, file_name(response, "download"), context)
            context.metric("response.length", content.length, tags={"request.method": response.request.method})
            return Outputs(uri=uri, code=response.status_code, length=content.length, headers=headers_of(response))
