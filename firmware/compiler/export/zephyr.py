"""--as zephyr: a module for west, and an application that runs the model."""

from __future__ import annotations

from firmware.compiler.export.project import INCLUDES, Project, body


def files(project: Project) -> dict[str, str]:
    """Return path → text: zephyr/module.yml, CMakeLists.txt, Kconfig, src/, sample/."""
    return {
        **{f"src/{path}": text for path, text in project.sources.items()},
        "zephyr/module.yml": _module(project),
        "CMakeLists.txt": _lists(project),
        "Kconfig": _kconfig(project),
        "sample/CMakeLists.txt": _sample_lists(project),
        "sample/prj.conf": f"# prj.conf: the sample needs the model and a console.\n{_option(project)}=y\n",
        "sample/src/main.c": _main(project),
    }


def _option(project: Project) -> str:
    return f"CONFIG_{project.identifier.upper()}"


def _module(project: Project) -> str:
    about = f"# module.yml: {project.identifier}, a model compiled to C by earkit.\n"
    return about + "build:\n  cmake: .\n  kconfig: Kconfig\n"


def _lists(project: Project) -> str:
    sources = "\n    ".join(f"src/{path}" for path in project.units)
    return f"""\
# CMakeLists.txt: the library of the model, when {_option(project)} is set.
if({_option(project)})
  zephyr_library_named({project.identifier})
  zephyr_include_directories(src)
  zephyr_library_sources(
    {sources})
  zephyr_library_compile_options(-O2)
endif()
"""


def _kconfig(project: Project) -> str:
    return (
        f"# Kconfig: {project.identifier}\nconfig {project.identifier.upper()}\n"
        f'\tbool "{project.identifier}, a model compiled by earkit"\n'
    )


def _sample_lists(project: Project) -> str:
    return f"""\
# CMakeLists.txt: an application that runs {project.identifier}; west build -b BOARD sample
cmake_minimum_required(VERSION 3.20.0)
list(APPEND ZEPHYR_EXTRA_MODULES ${{CMAKE_CURRENT_SOURCE_DIR}}/..)
find_package(Zephyr REQUIRED HINTS $ENV{{ZEPHYR_BASE}})
project({project.identifier}_sample C)
target_sources(app PRIVATE src/main.c)
"""


def _main(project: Project) -> str:
    return (
        f"/* main.c: runs {project.identifier} once a second and prints which output is the largest. */\n"
        f"#include <zephyr/kernel.h>\n\n{INCLUDES[project.frontend]}\n{body(project)}\n"
        "int main(void) {\n    ear_model_init();\n    while (1) {\n"
        '        printk("best output: %u\\n", best_output());\n        k_sleep(K_SECONDS(1));\n    }\n}\n'
    )
