"""Functions of the language: one Python function each, and the table of their names and arguments.

What reaches outside is a *service*, a plain callable that the caller of `render` passes in by name. A service gets
its arguments by position; those left out at the end are not passed. It raises a UserError to refuse.

| service | arguments | gives |
|---|---|---|
| `secret` | key, namespace, subkey | text |
| `kv` | key, namespace, error_on_missing | any value, None where missing |
| `read` | path, namespace, version | text |
| `file_uri` | path, namespace | text |
| `file_size` | path, namespace | bytes |
| `file_exists`, `is_file_empty` | path, namespace | boolean |
| `error_logs` | | list of maps |
| `now` | | aware datetime |
| `uuid`, `id`, `ksuid` | | text |
| `nano_id` | length, alphabet | text |
| `random_int` | lower, upper | integer, *upper* excluded |
| `random_port` | | integer |
| `random_bytes` | count | bytes, for `encrypt` |
| `http` | uri, method, query, body, content_type, headers, options, accept | any value |
"""

from collections.abc import Callable, Mapping

from tercel.errors import ExpressionError
from tercel.expression.arguments import Builtin
from tercel.expression.budget import MAX_RENDER_DEPTH
from tercel.expression.date_filters import DATE_FUNCTIONS
from tercel.expression.filters import weigh_json
from tercel.expression.methods import member
from tercel.expression.operators import stepped
from tercel.expression.rendering import Rendering
from tercel.expression.text_filters import integer_of, text_of
from tercel.expression.values import Number, deeper_than, is_list, is_map, is_number, kind_of, scalar_key

_STEPS_PER_ION_CHARACTER = 8  # it is read in plain Python


def _argument(name: str, function: str) -> str:
    return f"The argument `{name}` of the function `{function}`"


def _boolean(value: object, where: str, default: bool) -> bool:
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ExpressionError(f"{where} must be a boolean, not {kind_of(value)}")
    return value


# Numbers and ranges


def _max(_: Rendering, *numbers: object) -> object:
    return _extreme("max", numbers, lambda new, best: new > best)


def _min(_: Rendering, *numbers: object) -> object:
    return _extreme("min", numbers, lambda new, best: new < best)


def _extreme(name: str, numbers: tuple[object, ...], better: Callable[[Number, Number], bool]) -> object:
    best: object = None
    for number in numbers:
        if not is_number(number):
            raise ExpressionError(f"The function `{name}` needs numbers, not {kind_of(number)}")
        if not is_number(best) or better(number, best):
            best = number
    return best


def _range(rendering: Rendering, start: object, end: object, increment: object) -> object:
    step = 1 if increment is None else integer_of(increment, _argument("increment", "range"))
    if step == 0:
        raise ExpressionError(f"{_argument('increment', 'range')} is zero")
    return stepped(start, end, step, "The function `range`", rendering.budget)


# Formats


def _from_json(rendering: Rendering, value: object) -> object:
    from tercel.expression.formats import parse_json  # noqa: PLC0415  # rare, and formats is large

    if value is None:
        return None
    text = text_of(value, _argument("json", "fromJson"))
    weigh_json(text, rendering)
    return parse_json(text)


def _from_ion(rendering: Rendering, value: object) -> object:
    from tercel.expression.formats import parse_ion  # noqa: PLC0415  # rare, and formats is large

    if value is None:
        return None
    text = text_of(value, _argument("ion", "fromIon"))
    weigh_json(text, rendering)
    rendering.budget.spend(len(text) * _STEPS_PER_ION_CHARACTER)
    return parse_ion(text)


def _yaml(rendering: Rendering, value: object) -> object:
    from tercel.expression.formats import parse_yaml  # noqa: PLC0415  # rare, and formats is large

    if value is None:
        return None
    return parse_yaml(text_of(value, _argument("yaml", "yaml")), rendering.budget)


# Templates


def _render(rendering: Rendering, value: object, recursive: object) -> object:
    return _rendered(rendering, value, _boolean(recursive, _argument("recursive", "render"), True), "render")


def _render_once(rendering: Rendering, value: object) -> object:
    return _rendered(rendering, value, False, "renderOnce")


def _rendered(rendering: Rendering, value: object, stable: bool, name: str) -> object:
    if not rendering.nests:
        raise ExpressionError(f"Unknown function `{name}`: everything is rendered recursively here")
    budget = rendering.budget
    if budget.render_depth >= MAX_RENDER_DEPTH:
        raise ExpressionError(f"The function `{name}` is more than {MAX_RENDER_DEPTH} calls deep")
    budget.render_depth += 1
    try:
        return _rendered_inside(rendering, value, stable, 0)
    finally:
        budget.render_depth -= 1


def _rendered_inside(rendering: Rendering, value: object, stable: bool, depth: int) -> object:
    budget = rendering.budget
    budget.spend()
    if isinstance(value, str):
        return rendering.render(rendering, value, stable)
    if is_list(value):
        deeper = deeper_than(depth)
        budget.members(len(value))
        return [_rendered_inside(rendering, item, stable, deeper) for item in value]
    if is_map(value):
        deeper = deeper_than(depth)
        budget.members(len(value), 100)
        result: dict[object, object] = {}
        for key, item in list(value.items()):
            name = rendering.render(rendering, key, stable) if isinstance(key, str) else key
            result.setdefault(name, _rendered_inside(rendering, item, stable, deeper))
        return result
    return value


def _block(rendering: Rendering, name: object) -> object:
    block = rendering.blocks.get(text_of(name, _argument("name", "block")))
    return "" if block is None else rendering.captured(block, "The function `block`")


# The context


def _context(rendering: Rendering) -> object:
    return dict(rendering.visible())


def _variable(rendering: Rendering, name: str) -> object:
    return rendering.visible().get(name)


def _at(rendering: Rendering, value: object, key: object, path: str) -> object:
    """Look up a subscript of *path*; what is not there is missing."""
    return member(value, key, path, rendering.budget)


def _current_each_output(rendering: Rendering, outputs: object) -> object:
    if not is_map(outputs):
        raise ExpressionError(f"{_argument('outputs', 'currentEachOutput')} must be a map, not {kind_of(outputs)}")
    ancestors = _variable(rendering, "parents")
    found: object = outputs
    for ancestor in reversed(ancestors if is_list(ancestors) else []):
        task_run = ancestor.get("taskrun") if is_map(ancestor) else None
        if is_map(task_run) and task_run.get("value") is not None:
            found = _at(rendering, found, task_run["value"], "outputs")
    task_run = _variable(rendering, "taskrun")
    own = task_run if is_map(task_run) else {}
    if own.get("value") is None and found is not outputs:
        return found  # the iteration is an ancestor's, as in the branch of an If inside a loop
    return _at(rendering, found, _at(rendering, own, "value", "taskrun"), "outputs")


def _tasks_with_state(rendering: Rendering, state: object) -> object:
    wanted = text_of(state, _argument("state", "tasksWithState")).upper()
    found: list[object] = []
    tasks = _variable(rendering, "tasks")
    for task_id, entry in list(tasks.items()) if is_map(tasks) else ():
        if not is_map(entry):
            continue
        if isinstance(entry.get("state"), str):
            if str(entry["state"]).upper() == wanted:
                found.append({"taskId": task_id, "state": str(entry["state"])})
            continue
        for value, inner in list(entry.items()):
            if is_map(inner) and str(inner.get("state")).upper() == wanted:
                found.append({"taskId": task_id, "state": str(inner["state"]), "value": value})
    rendering.budget.members(len(found), 300)
    return found


def _parent_output(rendering: Rendering, index: object) -> object:
    """Give the outputs of an ancestor: its own map, or, of an ancestor with a value, the part for that value."""
    ancestors = _variable(rendering, "parents")
    known = ancestors if is_list(ancestors) else []
    number = 0 if index is None else len(known) - 1 - integer_of(index, _argument("index", "parentOutput"))
    if not 0 <= number < len(known):
        raise ExpressionError(f"The function `parentOutput` finds {len(known)} parents only")
    ancestor = known[number]
    path = "parents"
    task_id = _at(rendering, _at(rendering, ancestor, "task", path), "id", "parents.task")
    found = _at(rendering, _variable(rendering, "outputs"), task_id, "outputs")
    # The values of all ancestors from the outermost to this one select the iteration.
    for each in reversed(known[number:]):
        task_run = each.get("taskrun") if is_map(each) else None
        value = task_run.get("value") if is_map(task_run) else None
        if value is not None and is_map(found) and value in found:
            found = found[value]
    return found


def _iteration_output(rendering: Rendering, task_id: object, iteration: object) -> object:
    own_task = _variable(rendering, "task")
    task = _at(rendering, own_task if is_map(own_task) else {}, "id", "task") if task_id is None else task_id
    task_run = _variable(rendering, "taskrun")
    if iteration is None:
        current = _at(rendering, task_run if is_map(task_run) else {}, "iteration", "taskrun")
        number = integer_of(current, "`taskrun.iteration`") - 1
    else:
        number = integer_of(iteration, _argument("iteration", "iterationOutput"))
    outputs = _at(rendering, _variable(rendering, "outputs"), scalar_key(task), "outputs")
    rounds = list(outputs.values()) if is_map(outputs) else []
    if not 0 <= number < len(rounds):
        raise ExpressionError(f"The function `iterationOutput` finds no iteration {number}")
    return _at(rendering, rounds[number], "value", "outputs")


def _env(rendering: Rendering, name: object, default: object) -> object:
    environment = _variable(rendering, "envs")
    value = environment.get(text_of(name, _argument("name", "env"))) if is_map(environment) else None
    return default if value is None or value == "" else value


# Services


def _secret(rendering: Rendering, key: object, namespace: object, subkey: object) -> object:
    return rendering.service("secret", "secret", text_of(key, _argument("key", "secret")), namespace, subkey)


def _kv(rendering: Rendering, key: object, namespace: object, error_on_missing: object) -> object:
    strict = _boolean(error_on_missing, _argument("errorOnMissing", "kv"), False)
    name = text_of(key, _argument("key", "kv"))
    return rendering.service("kv", "kv", name, namespace, strict or None)


def _path_service(service: str, function: str) -> Callable[[Rendering, object, object], object]:
    """Make a function of a path and a namespace."""

    def run(rendering: Rendering, path: object, namespace: object) -> object:
        name = text_of(path, _argument("path", function))
        if not name:
            raise ExpressionError(f"{_argument('path', function)} is empty")
        if function == "fileURI" and ("../" in name or name.endswith("..")):
            raise ExpressionError(f"{_argument('path', function)} must not hold `../`")
        return rendering.service(service, function, name, namespace)

    return run


def _read(rendering: Rendering, path: object, namespace: object, version: object) -> object:
    name = text_of(path, _argument("path", "read"))
    if not name:
        raise ExpressionError(f"{_argument('path', 'read')} is empty")
    number = None if version is None else integer_of(version, _argument("version", "read"))
    return rendering.service("read", "read", name, namespace, number)


def _service(service: str, function: str) -> Callable[..., object]:
    """Make a function that hands its arguments on."""

    def run(rendering: Rendering, *arguments: object) -> object:
        return rendering.service(service, function, *arguments)

    return run


def _random_int(rendering: Rendering, lower: object, upper: object) -> object:
    first = integer_of(lower, _argument("lower", "randomInt"))
    last = integer_of(upper, _argument("upper", "randomInt"))
    if last <= first:
        raise ExpressionError(f"{_argument('upper', 'randomInt')} must be more than `lower`")
    return rendering.service("random_int", "randomInt", first, last)


def _nano_id(rendering: Rendering, length: object, alphabet: object) -> object:
    size = 21 if length is None else integer_of(length, _argument("length", "nanoId"))
    if not 0 < size <= 1000:
        raise ExpressionError(f"{_argument('length', 'nanoId')} must be from 1 to 1000")
    return rendering.service("nano_id", "nanoId", size, alphabet)


def _encrypt(rendering: Rendering, key: object, plaintext: object) -> object:
    from base64 import b64encode  # noqa: PLC0415  # rare

    from tercel.expression.aes_gcm import IV_SIZE, encrypt  # noqa: PLC0415  # rare

    text = text_of(plaintext, _argument("plaintext", "encrypt"))
    iv = rendering.service("random_bytes", "encrypt", IV_SIZE)
    if not isinstance(iv, bytes):
        raise ExpressionError("The function `encrypt` gets no random bytes here")
    try:
        sealed = encrypt(_key(key, "encrypt"), iv, text.encode())
    except ValueError as error:
        raise ExpressionError(f"The function `encrypt` fails: {error}") from error
    return b64encode(iv + sealed).decode("ascii")


def _decrypt(rendering: Rendering, key: object, encrypted: object) -> object:
    from tercel.expression.aes_gcm import IV_SIZE, decrypt  # noqa: PLC0415  # rare

    data = _from_base64(text_of(encrypted, _argument("encrypted", "decrypt")), _argument("encrypted", "decrypt"))
    try:
        opened = decrypt(_key(key, "decrypt"), data[:IV_SIZE], data[IV_SIZE:])
        return opened.decode()
    except ValueError as error:
        raise ExpressionError(f"The function `decrypt` fails: {error}") from error


def _key(key: object, function: str) -> bytes:
    where = _argument("key", function)
    return _from_base64(text_of(key, where), where)


def _from_base64(text: str, where: str) -> bytes:
    from base64 import b64decode  # noqa: PLC0415  # rare

    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise ExpressionError(f"{where} must be Base64") from error


def _not_available(name: str) -> Callable[..., object]:
    def run(*_: object) -> object:
        raise ExpressionError(f"The function `{name}` is not available")

    return run


_HTTP = ("method", "query", "body", "contentType", "headers", "options", "accept")

FUNCTIONS: Mapping[str, Builtin] = {
    **DATE_FUNCTIONS,
    "max": Builtin(_max, any_number=True),
    "min": Builtin(_min, any_number=True),
    "range": Builtin(_range, "start*", "end*", "increment"),
    "block": Builtin(_block, "name*"),
    "fromJson": Builtin(_from_json, "json*"),
    "json": Builtin(_from_json, "json*"),
    "fromIon": Builtin(_from_ion, "ion*"),
    "yaml": Builtin(_yaml, "yaml*"),
    "render": Builtin(_render, "toRender*", "recursive"),
    "renderOnce": Builtin(_render_once, "toRender*"),
    "printContext": Builtin(_context),
    "fetchContext": Builtin(_context),
    "currentEachOutput": Builtin(_current_each_output, "outputs*"),
    "tasksWithState": Builtin(_tasks_with_state, "state*"),
    "parentOutput": Builtin(_parent_output, "index"),
    "iterationOutput": Builtin(_iteration_output, "taskId", "iteration"),
    "env": Builtin(_env, "name*", "default"),
    "secret": Builtin(_secret, "key*", "namespace", "subkey"),
    "kv": Builtin(_kv, "key*", "namespace", "errorOnMissing"),
    "read": Builtin(_read, "path*", "namespace", "version"),
    "fileURI": Builtin(_path_service("file_uri", "fileURI"), "path*", "namespace"),
    "fileSize": Builtin(_path_service("file_size", "fileSize"), "path*", "namespace"),
    "fileExists": Builtin(_path_service("file_exists", "fileExists"), "path*", "namespace"),
    "isFileEmpty": Builtin(_path_service("is_file_empty", "isFileEmpty"), "path*", "namespace"),
    "fileEmpty": Builtin(_path_service("is_file_empty", "fileEmpty"), "path*", "namespace"),
    "errorLogs": Builtin(_service("error_logs", "errorLogs")),
    "uuid": Builtin(_service("uuid", "uuid")),
    "id": Builtin(_service("id", "id")),
    "ksuid": Builtin(_service("ksuid", "ksuid")),
    "nanoId": Builtin(_nano_id, "length", "alphabet"),
    "randomInt": Builtin(_random_int, "lower*", "upper*"),
    "randomPort": Builtin(_service("random_port", "randomPort")),
    "http": Builtin(_service("http", "http"), "uri*", *_HTTP),
    "encrypt": Builtin(_encrypt, "key*", "plaintext*"),
    "decrypt": Builtin(_decrypt, "key*", "encrypted*"),
    **{name: Builtin(_not_available(name)) for name in ("appLink", "credential", "parent", "i18n")},
}
