"""The objects that endpoints answer with, and which endpoint answers with which; for the description of the API.

An object is written down as its members: `name: type`, or `name?: type` for one that may be absent. A type is `text`,
`whole`, `number`, `flag`, `date`, `any`, `map`, the name of an object, `[…]` for a list or `{…}` for a map of a type.
There may be more members than are written down.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

Schema = dict[str, Any]

_OBJECTS: Mapping[str, str] = {
    "Error": "message: text, hint?: text, _links: Links, _embedded?: Embedded",
    "Links": "self: [Link]",
    "Link": "href: text, templated: flag",
    "Embedded": "errors: [Issue]",
    "Issue": "message: text, path: text, line?: whole, column?: whole, hint?: text, code?: text",
    "BulkError": "message: text, invalids?: [Invalid]",
    "Invalid": "message: text, invalidValue?: text, path?: text",
    "Bulk": "count: whole, operationId: text, totalItems: whole",
    "Label": "key: text, value: text",
    "Flow": "id: text, namespace: text, revision: whole, description?: any, labels?: any, inputs?: any, tasks: any, "
    "triggers?: any, disabled: flag, deleted: flag, draft: flag, updated: date, exception?: text",
    "FlowWithSource": "id: text, namespace: text, revision: whole, tasks: any, disabled: flag, deleted: flag, "
    "draft: flag, updated: date, source: text, exception?: text",
    "FlowDiff": "from: whole, to: whole, diff: text",
    "FlowForExecution": "id: text, namespace: text, revision: whole, inputs?: any, labels: [Label], "
    "tasks: [TaskForExecution], errors?: [TaskForExecution], triggers?: [TaskForExecution], disabled: flag, "
    "deleted: flag",
    "TaskForExecution": "id: text, type: text, tasks?: [TaskForExecution]",
    "Task": "id: text, type: text",
    "FoundFlow": "namespace: text, id: text, editable: flag, matches: [FoundLine], model: Flow, fragments: [text]",
    "FoundLine": "line: whole, text: text",
    "Violation": "index: whole, flow?: text, namespace?: text, filename?: text, constraints?: text, outdated: flag, "
    "deprecationPaths?: [text], warnings?: [text], infos?: [text]",
    "Execution": "id: text, namespace: text, flowId: text, flowRevision: whole, taskRunList?: [TaskRun], inputs?: map, "
    "outputs?: map, variables?: map, labels: [Label], state: State, parentId?: text, originalId: text, "
    "trigger?: ExecutionTrigger, deleted: flag, metadata: Metadata, scheduleDate?: date, kind?: text, url?: text",
    "Metadata": "attemptNumber: whole, originalCreatedDate: date",
    "State": "current: text, histories: [StateChange], startDate: date, endDate?: date, duration: text",
    "StateChange": "state: text, date: date",
    "TaskRun": "id: text, executionId: text, namespace: text, flowId: text, taskId: text, parentTaskRunId?: text, "
    "value?: text, iteration?: whole, attempts: [Attempt], outputs?: map, state: State",
    "Attempt": "state: State, workerId?: text",
    "ExecutionTrigger": "id: text, type?: text, variables?: map, logFile?: text",
    "LatestExecution": "id: text, flowId: text, namespace: text, startDate: date, status: text",
    "CheckedInputs": "id: text, namespace: text, inputs: [CheckedInput]",
    "CheckedInput": "input: any, value?: any, enabled: flag, isDefault?: flag, errors: [any]",
    "AverageDuration": "count: whole, avgDurationMs?: whole",
    "TaskOutputs": "taskId: text, taskRunId: text, value?: text, iteration?: whole, inline: flag",
    "Evaluated": "result?: text, error?: text, stackTrace?: text",
    "FileSize": "size: whole",
    "FilePreview": "extension: text, type: text, content: any, maxLine: whole, truncated: flag",
    "Graph": "nodes: [GraphNode], edges: [GraphEdge], clusters: [any], flowables: [text]",
    "GraphNode": "uid: text, type: text, relationType?: text, task?: any, taskRun?: TaskRun",
    "GraphEdge": "source: text, target: text, relation: any",
    "Topology": "nodes: [TopologyNode], edges: [TopologyEdge]",
    "TopologyNode": "uid: text, namespace: text, id: text",
    "TopologyEdge": "source: text, target: text, relation: text",
    "LogEntry": "namespace: text, flowId: text, executionId?: text, taskId?: text, taskRunId?: text, "
    "triggerId?: text, timestamp: date, level: text, thread: text, message: text",
    "Metric": "namespace: text, flowId: text, executionId: text, taskId: text, taskRunId: text, type: text, "
    "name: text, value: number, timestamp: date, tags?: {text}",
    "Aggregates": "groupBy: text, aggregations: [Aggregate]",
    "Aggregate": "name: text, value?: number, date: date",
    "TriggerState": "namespace: text, flowId: text, triggerId: text, disabled: flag, locked: flag, executionId?: text, "
    "date?: date, lastTriggeredDate?: date, nextExecutionDate?: date, nextEvaluationDate?: date, updatedDate?: date, "
    "updatedAt?: date, stopAfter?: any, backfill?: Backfill",
    "TriggerAndState": "trigger: map, state: TriggerState, abstractTrigger: map, triggerContext: TriggerState",
    "Backfill": "start: date, end: date, currentDate: date, paused: flag, inputs?: map, labels?: [Label], "
    "previousNextExecutionDate?: date",
    "KeyValue": "namespace: text, key: text, revision: whole, version: whole, description?: text, creationDate: date, "
    "updateDate: date, expirationDate?: date",
    "Value": "type: text, value: any, revision: whole, updated: date",
    "RemovedKeys": "keys: [text]",
    "Namespace": "id: text, deleted: flag, disabled: flag",
    "Secret": "key: text, namespace: text",
    "File": "fileName: text, type: text, size: whole, lastModifiedTime: whole, creationTime: whole",
    "FileRevision": "revision: whole, size: whole",
    "PluginGroup": "name: text, title: text, group: text, version: text, subGroup?: text",
    "PluginDocumentation": "markdown: text, schema: map",
    "PluginVersions": "type: text, versions: [text]",
    "PluginIcon": "name: text, icon: text, flowable: flag",
    "PluginProperties": "properties: map, definitions: map",
    "InputType": "type: text, cls: text",
    "Configuration": "uuid: text, version: text, edition: text, systemNamespace: text, isBasicAuthEnabled: flag, "
    "isBasicAuthInitialized: flag, hiddenLabelsPrefixes: [text], preview: map, url?: text",
    "Health": "name: text, status: text, details: map",
    "Version": "version: text, type: text",
    "Me": "id?: text, username?: text",
    "Usages": "flows: map, executions: map",
    "Summary": "flows: whole, triggers: whole",
}

_ANSWERS: Mapping[str, str] = {
    "POST /flows": "FlowWithSource",
    "PUT /flows/{namespace}/{id}": "FlowWithSource",
    "GET /flows/{namespace}/{id}": "Flow",
    "GET /flows/{namespace}/{id}/revisions": "[FlowWithSource]",
    "GET /flows/{namespace}/{id}/revisions/diff": "FlowDiff",
    "GET /flows/{namespace}/{id}/tasks/{taskId}": "Task",
    "GET /flows/search": "Flow",
    "GET /flows/source": "FoundFlow",
    "GET /flows/distinct-namespaces": "[text]",
    "GET /flows/{namespace}": "[Flow]",
    "POST /flows/{namespace}": "[FlowWithSource]",
    "POST /flows/bulk": "[FlowWithSource]",
    "POST /flows/validate": "[Violation]",
    "POST /flows/validate/*": "Violation",
    "POST /flows/import": "[text]",
    "* */graph": "Graph",
    "GET */dependencies": "Topology",
    "GET /executions": "Execution",
    "GET /executions/search": "Execution",
    "POST /executions/latest": "[LatestExecution]",
    "GET /executions/distinct-field-values": "[any]",
    "GET /executions/namespaces": "[text]",
    "GET /executions/namespaces/{namespace}/flows": "[FlowForExecution]",
    "GET */average-duration": "AverageDuration",
    "GET /executions/flows/{namespace}/{flowId}": "FlowForExecution",
    "GET /executions/{executionId}/flow": "FlowForExecution",
    "GET /executions/{executionId}": "Execution",
    "GET /executions/{executionId}/file/metas": "FileSize",
    "GET /executions/{executionId}/file/preview": "FilePreview",
    "POST /executions/*/validate": "CheckedInputs",
    "POST /executions/{executionId}/actions/eval*": "Evaluated",
    "* /executions/{executionId}/actions/*": "Execution",
    "* /executions/webhook/*": "Execution",
    "POST /executions/trigger/{namespace}/{id}": "Execution",
    "POST /executions/{namespace}/{id}": "Execution",
    "GET /outputs/tasks/{executionId}": "[TaskOutputs]",
    "GET /outputs/*": "map",
    "GET /logs/search": "LogEntry",
    "GET /logs/{executionId}": "[LogEntry]",
    "GET /metrics/{executionId}": "Metric",
    "GET /metrics/names/*": "[text]",
    "GET /metrics/tasks/*": "[text]",
    "GET /metrics/aggregates/*": "Aggregates",
    "GET /triggers/search": "TriggerAndState",
    "* /triggers*": "TriggerState",
    "GET /kv": "KeyValue",
    "GET /namespaces/{namespace}/kv": "[KeyValue]",
    "GET /namespaces/{namespace}/kv/inheritance": "[KeyValue]",
    "GET /namespaces/{namespace}/kv/{key}": "Value",
    "DELETE /namespaces/{namespace}/kv/{key}": "flag",
    "DELETE /namespaces/{namespace}/kv": "RemovedKeys",
    "GET /namespaces/search": "Namespace",
    "POST /namespaces/autocomplete": "[text]",
    "GET /namespaces/{id}": "Namespace",
    "GET /namespaces/{namespace}/secrets": "Secret",
    "GET /namespaces/{namespace}/inherited-secrets": "{[text]}",
    "GET /namespaces/{namespace}/files/directory": "[File]",
    "GET /namespaces/{namespace}/files/stats": "File",
    "GET /namespaces/{namespace}/files/search": "[text]",
    "GET /namespaces/{namespace}/files/revisions": "[FileRevision]",
    "GET /plugins": "PluginGroup",
    "GET /plugins/groups/subgroups": "[PluginGroup]",
    "GET /plugins/triggers": "[text]",
    "GET /plugins/schemas/{type}": "map",
    "GET /plugins/properties/{type}": "PluginProperties",
    "GET /plugins/inputs": "[InputType]",
    "GET /plugins/icons/{cls}": "PluginIcon",
    "GET /plugins/icons*": "{PluginIcon}",
    "GET /plugins/{cls}/versions": "PluginVersions",
    "GET /plugins/*": "PluginDocumentation",
    "GET /configs": "Configuration",
    "GET /basicAuthValidationErrors": "[text]",
    "GET /me": "Me",
    "GET /health*": "Health",
    "GET /version": "Version",
    "GET /pebble/*": "[text]",
    "GET /usages/all": "Usages",
    "POST /stats/summary": "Summary",
    "GET /blueprints/*/tags": "[any]",
    "GET /blueprints/*": "any",
    "GET /dashboards*": "any",
    "GET /swagger/{name}": "map",
}
"""By method and path: the type of a JSON answer, or of the items of a page. The first that fits counts."""

_PLAIN: Mapping[str, Schema] = {
    "text": {"type": "string"},
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "flag": {"type": "boolean"},
    "date": {"type": "string", "format": "date-time"},
    "map": {"type": "object"},
    "any": {},
}


def answer_schema(method: str, path: str) -> Schema | None:
    """What an endpoint answers with, or the items of its pages; None where it is not written down."""
    key = f"{method} {path}"
    for pattern, text in _ANSWERS.items():
        if key == pattern or fnmatchcase(key, pattern):
            return _schema(text)
    return None


def schemas() -> dict[str, Schema]:
    """All objects, by name."""
    return {name: _object(members) for name, members in _OBJECTS.items()}


def page_schema(item: Schema) -> Schema:
    """A page of items."""
    results = {"type": "array", "items": item}
    return {
        "type": "object",
        "properties": {"results": results, "total": _PLAIN["whole"]},
        "required": ["results", "total"],
    }


def _object(members: str) -> Schema:
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for member in members.split(", "):
        name, _, text = member.partition(": ")
        properties[name.rstrip("?")] = _schema(text)
        if not name.endswith("?"):
            required.append(name)
    found: Schema = {"type": "object", "properties": properties}
    return {**found, "required": required} if required else found


def _schema(text: str) -> Schema:
    """A type as JSON Schema.

    Example:
        >>> _schema("[whole]")
        {'type': 'array', 'items': {'type': 'integer'}}
    """
    match text[0]:
        case "[":
            return {"type": "array", "items": _schema(text[1:-1])}
        case "{":
            return {"type": "object", "additionalProperties": _schema(text[1:-1])}
        case _:
            return dict(_PLAIN[text]) if text in _PLAIN else reference(text)


def reference(name: str) -> Schema:
    """An object, by its name."""
    return {"$ref": f"#/components/schemas/{name}"}
