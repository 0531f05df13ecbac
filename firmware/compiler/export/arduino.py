"""--as arduino: a library for the library manager, with a sketch."""

from __future__ import annotations

from firmware.compiler.export.project import INCLUDES, Project, body, hearing


def files(project: Project) -> dict[str, str]:
    """Return path → text: library.properties, src/ with a header for C++, examples/.

    With a front end one of the examples listens through the microphone of the board's PDM library.
    """
    name = project.identifier
    heard = {f"examples/{name}_microphone/{name}_microphone.ino": _listening(project)}
    return {
        **(heard if project.frontend else {}),
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


def _listening(project: Project) -> str:
    return _LISTENING.replace("@HEARING@", hearing(project)).replace("@NAME@", project.identifier)


_LISTENING = """\
// Listens through the board's microphone and prints which output of @NAME@ is the largest.
// For boards whose package has the PDM library, such as Nano 33 BLE Sense and Nano RP2040 Connect.
#include <PDM.h>
#include <stdbool.h>
#include <string.h>
#include <@NAME@.h>

@HEARING@
static int16_t ring[4096];  // samples between the interrupt and loop()
static volatile uint32_t head, tail, lost;

// Called when the microphone has new samples.
static void receive() {
    static int16_t block[256];
    int bytes = PDM.available();
    if (bytes > (int)sizeof block)
        bytes = sizeof block;
    uint32_t count = (uint32_t)PDM.read(block, bytes) / sizeof *block;
    for (uint32_t i = 0; i < count; ++i) {
        uint32_t next = (head + 1) % 4096;
        if (next == tail) {
            lost = lost + 1;
            continue;
        }
        ring[head] = block[i];
        head = next;
    }
}

void setup() {
    Serial.begin(115200);
    ear_model_init();
    PDM.onReceive(receive);
    if (!PDM.begin(1, EAR_FE_RATE)) {
        Serial.println("no microphone");
        while (true)
            delay(1000);
    }
}

void loop() {
    while (tail != head) {
        int16_t sample = ring[tail];
        tail = (tail + 1) % 4096;
        if (!hear(sample))
            continue;
        Serial.print("best output: ");
        Serial.print(best_output());
        Serial.print(", samples lost: ");
        Serial.println(lost);
    }
}
"""
