"""The script protocol: how a line that a script prints becomes an output, a metric, a secret or a log entry.

`ScriptOutput` takes the bytes of one stream as they come and tells a `Sink` what they mean. It knows the lines
(`lines`), the frames around payloads (`frames`) and what a payload holds (`payload`); it does not know processes,
stores or the task that prints.
"""

from tercel.script_protocol.frames import ScriptOutput, Sink
from tercel.script_protocol.lines import MAX_LINE_CHARACTERS, LineSplitter

__all__ = ["MAX_LINE_CHARACTERS", "LineSplitter", "ScriptOutput", "Sink"]
