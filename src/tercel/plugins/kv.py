"""Key-value pairs of a namespace: Set, Get, GetKeys, Delete."""

from datetime import timedelta

from tercel.model.key_values import ValueType, is_key, typed_value, untyped_value
from tercel.plugin_api import Dynamic, Outputs, RunContext, RunnableTask, TaskFailedError, parse_duration, plugin


@plugin("io.kestra.plugin.core.kv.Set")
class Set(RunnableTask, frozen=True, kw_only=True):
    """Store a value under a key of a namespace, for flows to come.

    Attributes:
        key: letters, digits, `.`, `-` and `_`, with a letter or digit first.
        value: keeps its type; a text that reads like a duration is stored as one, unless `kvType` is STRING.
        namespace: that of the flow where absent.
        overwrite: replace the value that there is; without it the task fails then.
        ttl: how long the value is kept, as a duration; for good without it.
        kv_type: what a text is to be read as before it is stored.

    Example:
        tasks:
          - id: keep
            type: io.kestra.plugin.core.kv.Set
            key: last_order
            value: 42
            ttl: P30D
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ kv('last_order') }}"
    """

    key: Dynamic
    value: object
    namespace: Dynamic | None = None
    overwrite: bool = True
    ttl: Dynamic | None = None
    kv_type: ValueType | None = None

    def run(self, context: RunContext) -> Outputs:
        """Store the value."""
        namespace, key = _place(self.namespace, context), _key(self.key, context)
        ttl = self._ttl(context)
        if not context.key_values.set(namespace, key, self._value(context), ttl=ttl, overwrite=self.overwrite):
            raise TaskFailedError(
                f"The key {key!r} of namespace {namespace!r} has a value already.", "Set 'overwrite' to replace it."
            )
        return Outputs()

    def _ttl(self, context: RunContext) -> timedelta | None:
        if self.ttl is None:
            return None
        text = context.render(self.ttl)
        try:
            ttl = parse_duration(text)
        except ValueError as error:
            raise TaskFailedError(f"The 'ttl' cannot be read: {error}.") from error
        if ttl < timedelta(0):
            raise TaskFailedError(f"The 'ttl' is {text}: a value cannot end before it begins.")
        return ttl

    def _value(self, context: RunContext) -> object:
        value = self.value
        value = context.render_typed(value) if isinstance(value, str) else context.render_value(value)
        if not isinstance(value, str):
            return value
        if self.kv_type is None:
            return untyped_value(value)
        try:
            return typed_value(value, self.kv_type)
        except ValueError as error:
            raise TaskFailedError(f"The value cannot be read as {self.kv_type}.", "Change it, or 'kvType'.") from error


@plugin("io.kestra.plugin.core.kv.Get")
class Get(RunnableTask, frozen=True, kw_only=True):
    """Give the value that a key of a namespace has.

    Attributes:
        key: the key.
        namespace: that of the flow where absent.
        error_on_missing: fail where there is no value, or it has expired.

    Outputs:
        value: the value, with its type; null where there is none.

    Example:
        tasks:
          - id: keep
            type: io.kestra.plugin.core.kv.Set
            key: last_order
            value: "{{ 41 + 1 }}"
            kvType: NUMBER
          - id: look
            type: io.kestra.plugin.core.kv.Get
            key: last_order
            errorOnMissing: true
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.look.value }}"
    """

    key: Dynamic
    namespace: Dynamic | None = None
    error_on_missing: bool = False

    def run(self, context: RunContext) -> Outputs:
        """Look the key up."""
        namespace, key = _place(self.namespace, context), _key(self.key, context)
        value = context.key_values.find(namespace, key)
        if value is None and self.error_on_missing:
            raise _missing(namespace, key)
        return Outputs(value=value)


@plugin("io.kestra.plugin.core.kv.GetKeys")
class GetKeys(RunnableTask, frozen=True, kw_only=True):
    """Give the keys of a namespace.

    Attributes:
        prefix: what they begin with; all of them without it.
        namespace: that of the flow where absent.

    Outputs:
        keys: the keys, sorted.

    Example:
        tasks:
          - id: keep
            type: io.kestra.plugin.core.kv.Set
            key: last_order
            value: "{{ 41 + 1 }}"
            kvType: NUMBER
          - id: keys
            type: io.kestra.plugin.core.kv.GetKeys
            prefix: last_
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.keys.keys | join(', ') }}"
    """

    prefix: Dynamic | None = None
    namespace: Dynamic | None = None

    def run(self, context: RunContext) -> Outputs:
        """List the keys."""
        prefix = context.render(self.prefix or "")
        return Outputs(keys=context.key_values.keys(_place(self.namespace, context), prefix))


@plugin("io.kestra.plugin.core.kv.Delete")
class Delete(RunnableTask, frozen=True, kw_only=True):
    """Remove a key of a namespace, and its value.

    Attributes:
        key: the key.
        namespace: that of the flow where absent.
        error_on_missing: fail where there is no such key.

    Outputs:
        deleted: whether there was one.

    Example:
        tasks:
          - id: keep
            type: io.kestra.plugin.core.kv.Set
            key: last_order
            value: "{{ 41 + 1 }}"
            kvType: NUMBER
          - id: forget
            type: io.kestra.plugin.core.kv.Delete
            key: last_order
            errorOnMissing: true
    """

    key: Dynamic
    namespace: Dynamic | None = None
    error_on_missing: bool = False

    def run(self, context: RunContext) -> Outputs:
        """Remove the key."""
        namespace, key = _place(self.namespace, context), _key(self.key, context)
        is_deleted = context.key_values.delete(namespace, key)
        if not is_deleted and self.error_on_missing:
            raise _missing(namespace, key)
        return Outputs(deleted=is_deleted)


def _place(namespace: str | None, context: RunContext) -> str:
    return context.render("{{ flow.namespace }}" if namespace is None else namespace)


def _key(template: str, context: RunContext) -> str:
    key = context.render(template)
    if not is_key(key):
        raise TaskFailedError(
            f"{key!r} cannot be a key.", "Use letters, digits, '.', '-' and '_', with a letter or digit first."
        )
    return key


def _missing(namespace: str, key: str) -> TaskFailedError:
    return TaskFailedError(f"There is no key {key!r} in namespace {namespace!r}, or it has expired.")
