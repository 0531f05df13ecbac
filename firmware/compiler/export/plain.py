"""--as c: the sources in one folder, with an example that any C compiler builds."""

from __future__ import annotations

from firmware.compiler.export.project import INCLUDES, Project, body

FLAGS = "-std=c11 -O2 -fomit-frame-pointer -Wall -Wextra -Werror -Wconversion -I."


def files(project: Project) -> dict[str, str]:
    """Return path → text: sources, example.c, README.md."""
    return {**project.sources, "example.c": example(project), "README.md": _readme(project)}


def example(project: Project) -> str:
    """Return an example program for a machine with a console."""
    return (
        f"/* example.c: runs {project.identifier} once and prints which output is the largest. */\n"
        f"#include <stdio.h>\n\n{INCLUDES[project.frontend]}\n{body(project)}\n"
        "int main(void) {\n"
        "    ear_model_init();\n"
        '    printf("best output: %u\\n", (unsigned)best_output());\n'
        "    return ear_arena_intact() ? 0 : 1;\n}\n"
    )


def _readme(project: Project) -> str:
    return (
        f"# {project.identifier}\n\n"
        f"A model compiled to C by earkit, for the unit `{project.unit}`. No heap; of a C library only\n"
        "memcpy, memmove and memset. `model.h` says everything that your program needs.\n\n"
        f"```sh\ncc {FLAGS} {' '.join(project.units)} example.c -o example && ./example\n```\n"
    )
