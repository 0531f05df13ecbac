"""--as arduino: a library for the library manager, with a sketch."""

from __future__ import annotations

from firmware.compiler.export.project import INCLUDES, Project, body


def files(project: Project) -> dict[str, str]:
    """Return path → text: library.properties, src/ with a header for C++, examples/."""
    name = project.identifier
    return {
        **{f"src/{path}": text for path, text in project.sources.items()},
        f"src/{name}.h": _header(project),
        f"examples/{name}_once/{name}_once.ino": _sketch(project),
        "library.properties": _properties(project),
    }


def _properties(project: Project) -> str:
    return f"""\
name={project.identifier}
version=1.0.0
author=earkit
maintainer=earkit
sentence=A model compiled to C by earkit.
paragraph=No heap, no interpreter; for the unit {project.unit}.
category=Data Processing
url=
architectures=*
includes={project.identifier}.h
"""


def _header(project: Project) -> str:
    guard = f"{project.identifier.upper()}_H"
    return (
        f"/* {project.identifier}.h: the model, for sketches. */\n"
        f'#ifndef {guard}\n#define {guard}\n\nextern "C" {{\n{INCLUDES[project.frontend]}}}\n\n#endif\n'
    )


def _sketch(project: Project) -> str:
    return (
        f"// Runs {project.identifier} once a second and prints which output is the largest.\n"
        f"#include <{project.identifier}.h>\n\n{body(project)}\n"
        "void setup() {\n    Serial.begin(115200);\n    ear_model_init();\n}\n\n"
        'void loop() {\n    Serial.print("best output: ");\n'
        "    Serial.println(best_output());\n    delay(1000);\n}\n"
    )
