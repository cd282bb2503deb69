"""core.http.Request: an answer as text."""

from typing import TYPE_CHECKING, cast

import msgspec

from tercel.plugin_api import MissingToolError, Outputs, RunContext, TaskFailedError, plugin
from tercel.plugins.http.answer import Content, file_name, headers_of, save
from tercel.plugins.http.task import HttpTask
from tercel.plugins.http.texts import shown, without_login

if TYPE_CHECKING:
    import httpx

_MAX_OUTPUT_BYTES = 10 << 20
_MAX_SECRET_BYTES = 64 << 10


@plugin(
    "io.kestra.plugin.core.http.Request",
    aliases=["io.kestra.plugin.fs.http.Request"],
)
class Request(HttpTask, frozen=True, kw_only=True):
    """Send an HTTP request and give the answer's body back as text.

    A body that is too large for outputs goes to internal storage instead, with a warning in the log.

    Proxy and trusted certificates are those of the worker's environment (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`)
    unless *options* say otherwise. Which hosts may be asked is up to the worker's administrator.

    Attributes:
        encrypt_body: treat the answer's body as a secret: masked in logs and pages, stored encrypted.

    Outputs:
        body: the answer's text.
        body_uri: instead of *body*, the file in internal storage with a body that is too large for outputs.
        encrypted_body: instead of *body* with *encryptBody*; expressions see its text.
        code: the status.
        headers: name to list of values; names as the server writes them, and in lower case.
        uri: the address asked.

    Example:
        tasks:
          - id: create
            type: io.kestra.plugin.core.http.Request
            uri: https://orders.example/api/orders
            method: POST
            body: '{"product": "A-1", "quantity": 2}'
            options:
              auth:
                type: BEARER
                token: "{{ secret('ORDERS_TOKEN') }}"
          - id: show
            type: io.kestra.plugin.core.log.Log
            message: "Order {{ json(outputs.create.body).id }} is created."
    """

    encrypt_body: bool = False

    def run(self, context: RunContext) -> Outputs:
        """Send, and read the whole answer."""
        if self.encrypt_body:
            _check_encryption()
        with self.response(context) as response:
            code = response.status_code
            outputs = Outputs(uri=without_login(str(response.request.url)), code=code, headers=headers_of(response))
            content = self.content_of(response, context)
            if self.encrypt_body:
                outputs["encryptedBody"] = self._secret(response, content, context)
            else:
                self._read(response, content, outputs, context)
            tags = {"request.method": response.request.method, "response.code": str(code)}
            context.metric("response.length", content.length, tags=tags)
            return outputs

    def _read(self, response: "httpx.Response", content: Content, outputs: Outputs, context: RunContext) -> None:
        """Add the body to *outputs*, or the URI of where it is."""
        limit = cast("int", context.setting("outputs.max-bytes", _MAX_OUTPUT_BYTES))
        start = content.take(limit)
        if content.is_at_end():
            outputs["body"] = self._text(response, start, context)
            if len(msgspec.json.encode(outputs)) <= limit:
                return
            del outputs["body"]
        content.give_back(start)
        outputs["bodyUri"] = save(content, file_name(response, "body"), context)
        context.logger.warn(
            f"The answer has {content.length:,} bytes, and outputs {limit:,} at most: it is in the file "
            f"that the output bodyUri names, and there is no output body."
        )

    def _secret(self, response: "httpx.Response", content: Content, context: RunContext) -> str:
        start = content.take(_MAX_SECRET_BYTES)
        if not content.is_at_end():
            raise TaskFailedError(
                f"The answer of {shown(str(response.request.url))} has more than the {_MAX_SECRET_BYTES:,} bytes that "
                "encryptBody can handle."
            )
        text = self._text(response, start, context)
        context.add_secret(text)
        return text

    def _text(self, response: "httpx.Response", body: bytes, context: RunContext) -> str:
        charset = response.charset_encoding or context.render(self.the_options.default_charset)
        try:
            return body.decode(charset)
        except (UnicodeDecodeError, LookupError):
            raise TaskFailedError(
                f"The answer of {shown(str(response.request.url))} is not text.",
                "Use io.kestra.plugin.core.http.Download for files.",
            ) from None


def _check_encryption() -> None:
    from importlib.util import find_spec  # noqa: PLC0415  # seldom needed

    if find_spec("cryptography") is None:
        raise MissingToolError(
            "encryptBody needs the library cryptography.", "Install it: pip install 'tercel[encryption]'."
        )
