"""core.http.Trigger: an answer that starts an execution."""

from tercel.plugin_api import Dynamic, Outputs, PollContext, PollingTrigger, is_truthy_text, plugin
from tercel.plugins.http.options import HttpOptions, SslOptions
from tercel.plugins.http.request import Request
from tercel.plugins.http.texts import shown


@plugin(
    "io.kestra.plugin.core.http.Trigger",
    aliases=["io.kestra.plugin.fs.http.Trigger"],
)
class Trigger(PollingTrigger, frozen=True, kw_only=True):
    """Start an execution when an HTTP request is answered as it should be.

    The request is sent again after each interval, but not while an execution that it started runs. A status of 400 or
    more is an answer like others. Executions see as `trigger` what Request gives: `uri`, `code`, `headers` and `body`,
    or in its place `bodyUri` or `encryptedBody`.

    Attributes:
        uri: the address, http or https.
        method: such as POST.
        body: text to send, or the URI of a file in internal storage whose content is sent, streamed.
        form_data: fields to send; files with `contentType: multipart/form-data`.
        content_type: of what is sent; with *body* it is `application/json` unless this or *headers* say otherwise.
        headers: to send; lists and maps as JSON.
        params: added to the address's query; a list gives one parameter for each of its values.
        options: how the request travels.
        ssl_options: how far the server's certificate is trusted; `options.ssl` is the same.
        response_condition: an execution is started unless it renders to an empty text, `false`, `null`, `0` or `-0`; it
            sees `response.statusCode`, `response.headers` and `response.body`, which is null where the body is too
            large for outputs.
        encrypt_body: treat the answer's body as a secret: masked in logs and pages, stored encrypted.

    Example:
        tasks:
          - id: show
            type: io.kestra.plugin.core.log.Log
            message: "{{ json(trigger.body).count }} orders wait."
        triggers:
          - id: orders
            type: io.kestra.plugin.core.http.Trigger
            uri: https://orders.example/api/waiting
            interval: PT5M
            responseCondition: "{{ response.statusCode == 200 and json(response.body).count > 0 }}"
    """

    # Once more, as in HttpTask: a struct cannot have two bases with fields.
    uri: Dynamic
    method: Dynamic = "GET"
    body: Dynamic | None = None
    form_data: dict[str, object] | Dynamic | None = None
    content_type: Dynamic | None = None
    headers: dict[str, Dynamic] | Dynamic | None = None
    params: dict[str, object] | Dynamic | None = None
    options: HttpOptions | None = None
    ssl_options: SslOptions | None = None
    response_condition: Dynamic = "{{ response.statusCode < 400 }}"
    encrypt_body: bool = False

    def evaluate(self, context: PollContext) -> Outputs | None:
        """Send the request, and give the answer where it meets the condition."""
        answer = self._request().run(context)
        body = answer.get("body", answer.get("encryptedBody"))
        response = {"statusCode": answer["code"], "body": body, "headers": answer["headers"]}
        said = context.render(self.response_condition, {"response": response}).strip()
        if not is_truthy_text(said) or said == "null":
            context.logger.debug(f"{shown(str(answer['uri']))} answered {answer['code']}: not what is waited for.")
            return None
        return answer

    def _request(self) -> Request:
        return Request(
            id=self.id,
            type=self.type,
            uri=self.uri,
            method=self.method,
            body=self.body,
            form_data=self.form_data,
            content_type=self.content_type,
            headers=self.headers,
            params=self.params,
            options=self.options,
            ssl_options=self.ssl_options,
            allow_failed=True,
            encrypt_body=self.encrypt_body,
        )
