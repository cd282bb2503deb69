"""Call: one request, as the function that answers it sees it."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

import msgspec

from tercel.api.meters import Load, Meters
from tercel.api.options import Options
from tercel.api.parameters import Parameters
from tercel.api.problems import RequestError
from tercel.executor import Watcher
from tercel.model.flow import PluginDefault
from tercel.model.logs import LogEntry
from tercel.operations import Operations
from tercel.secrets import Secrets
from tercel.settings import Settings
from tercel.storage import InternalStorage

if TYPE_CHECKING:
    from tercel.scheduler import Scheduler

T = TypeVar("T")


class Engine(Protocol):
    """What the API asks of the engine. For any thread.

    Attributes:
        settings: of this process.
        operations: the verbs and questions, coroutines for `call`; or to be awaited by an `async` answer.
        secrets: by their names.
    """

    settings: Settings
    operations: Operations
    secrets: Secrets

    @property
    def storage(self) -> InternalStorage:
        """Internal storage."""
        ...

    @property
    def scheduler(self) -> "Scheduler":
        """What starts flows at their dates."""
        ...

    @property
    def load(self) -> Load:
        """What its workers have to do now."""
        ...

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a verb, blocking this thread."""
        ...

    def watch(
        self,
        changed: Watcher | None = None,
        logged: Callable[[Sequence[LogEntry]], object] | None = None,
    ) -> Callable[[], None]:
        """Be told, in threads of the engine, of changes and log lines; gives a way to stop."""
        ...


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a form.

    Attributes:
        name: of the part.
        text: of a part that is no file; None for a file.
        file: to be read; None for a text. It is closed, and removed, once the request is answered.
        file_name: as the sender calls the file; None for a text.
    """

    name: str
    text: str | None = None
    file: BinaryIO | None = None
    file_name: str | None = None


class Call:
    """One request.

    Attributes:
        engine: what does the work.
        options: how the API is set up.
        path: the parameters of the path, by name, decoded.
        query: what stands behind the `?`.
        headers: by name in lower case.
        body: all of it; empty where the route takes a form or reads the body itself.
        form: the parts of a form, in the order sent; empty where the route takes none.
        address: of the request, as it was sent, without its query.
        user: who signed in; empty where nobody has to.
        meters: count what becomes of executions.
        now: when it came, in UTC.
        request: the request itself, for an answer that reads its body or looks whether the client is still there.
        is_stopping: says whether the server stops, so that nothing is to be waited for.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        options: Options,
        path: Mapping[str, str],
        query_string: str,
        headers: Mapping[str, str],
        address: str,
        now: datetime,
        user: str = "",
        meters: Meters | None = None,
        body: bytes = b"",
        form: Sequence[Field] = (),
        request: Any = None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.engine = engine
        self.options = options
        self.path = path
        self._query_string = query_string
        self.headers = headers
        self.address = address
        self.now = now
        self.user = user
        self.meters = meters or Meters()
        self.body = body
        self.form = tuple(form)
        self.request = request
        self.is_stopping = is_stopping

    @cached_property
    def query(self) -> Parameters:
        """What stands behind the `?`."""
        return Parameters.read(self._query_string)

    @property
    def operations(self) -> Operations:
        """The verbs and questions, coroutines for `run`."""
        return self.engine.operations

    @property
    def plugin_defaults(self) -> Sequence[PluginDefault]:
        """What flows are completed by, whatever they say themselves: of the server's settings."""
        return self.engine.settings.plugin_defaults

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a verb, blocking this thread; only for an answer that is a plain function."""
        return self.engine.call(coroutine)

    @property
    def text(self) -> str:
        """The body as text. Raises RequestError, 422, where it is not UTF-8."""
        try:
            return self.body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise RequestError(422, "The body is no UTF-8 text.", reason="Invalid format") from None

    def json(self) -> object:
        """The body as JSON, whatever its content type says. Raises RequestError, 422, where it is none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(422, f"The body is no JSON: {error}", reason="Invalid json") from None

    def json_as(self, type_: type[T]) -> T:
        """The body as JSON of a type, unknown members being ignored. Raises RequestError, 422."""
        try:
            return msgspec.json.decode(self.body, type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(422, f"The body does not fit: {error}", reason="Invalid json") from None

    def file(self, name: str) -> Field:
        """The part of the form that is a file called *name*. Raises RequestError, 422, where there is none."""
        for field in self.form:
            if field.name == name and field.file is not None:
                return field
        raise RequestError(422, f"The form has no file {name!r}.")


def read_all(field: Field) -> bytes:
    """The content of a file of a form, or of a text as UTF-8."""
    return field.file.read() if field.file is not None else (field.text or "").encode()
