"""The jq language, version 1.6: run_jq is the whole interface.

Left out on purpose: modules, input, the clock, and the environment, which is empty. Programs run lazily, every step
is paid for out of the render's budget, and nothing leaves but values and ExpressionError.

Wider than 1.6, where later versions mend it: `|= empty` deletes all it should, `try` catches errors of its body
only, repeated empty matches of `gsub` end, whole numbers up to 64 bits are exact, and a few later builtins exist.
"""

from functools import lru_cache

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.jq.compiler import compile_program
from tercel.expression.jq.parser import parse_program
from tercel.expression.jq.runtime import BreakError, Code, JqError, Run, drive

__all__ = ["run_jq"]

_MAX_PROGRAM = 100_000


def run_jq(program: str, value: object, budget: Budget) -> list[object]:
    """Run a jq program.

    Args:
        program: its text.
        value: the input, as JSON has it: None, bool, int, float, Decimal, str, list or dict with texts as keys.
            Neither it nor its parts are changed; results may share parts with it.
        budget: pays for the steps and for the size of what is made.

    Returns:
        All results, in order; empty when there is none.

    Raises:
        ExpressionError: the program is malformed, ends in an error, or takes too much. The message begins with
            `jq:` and shows no values of the input.
    """
    if len(program) > _MAX_PROGRAM:
        raise ExpressionError(f"jq: the program is longer than {_MAX_PROGRAM:,} characters.")
    budget.spend(1 + len(program) // 64)
    try:
        run = Run(budget)
        code = _compiled(program)
        return run.gathered(item[1] for item in drive(run, code, None, None, value))
    except JqError as error:
        raise ExpressionError(f"jq: {error.public or 'error'}") from error
    except BreakError as error:
        raise ExpressionError("jq: break outside of its label.") from error
    except RecursionError:
        raise ExpressionError("jq: the program or its values are nested too deep.") from None


@lru_cache(maxsize=128)
def _compiled(program: str) -> Code:
    return compile_program(parse_program(program))
