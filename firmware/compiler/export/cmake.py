"""--as cmake: a library target, and an example that links it."""

from __future__ import annotations

from firmware.compiler.export.plain import example
from firmware.compiler.export.project import Project


def files(project: Project) -> dict[str, str]:
    """Return path → text: src/, example.c, CMakeLists.txt."""
    sources = {f"src/{path}": text for path, text in project.sources.items()}
    return {**sources, "example.c": example(project), "CMakeLists.txt": _lists(project)}


def _lists(project: Project) -> str:
    name = project.identifier
    sources = "\n    ".join(f"src/{path}" for path in project.units)
    return f"""\
# CMakeLists.txt: {name}, a model compiled to C by earkit. Elsewhere: add_subdirectory, and link {name}.
cmake_minimum_required(VERSION 3.13)
project({name} C)

add_library({name} STATIC
    {sources})
target_include_directories({name} PUBLIC src)
target_compile_options({name} PRIVATE -O2 -fomit-frame-pointer -Wall -Wextra -Werror -Wconversion)
set_target_properties({name} PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON)

if(CMAKE_SOURCE_DIR STREQUAL PROJECT_SOURCE_DIR)
    add_executable(example example.c)
    target_link_libraries(example PRIVATE {name})
endif()
"""
