"""--as zephyr: a module for west, and an application that runs the model."""

from __future__ import annotations

from firmware.compiler.export.project import INCLUDES, Project, body, hearing


def files(project: Project) -> dict[str, str]:
    """Return path → text: zephyr/module.yml, CMakeLists.txt, Kconfig, src/, sample/, microphone/.

    `microphone/`, an application that listens, comes with a front end only.
    """
    heard = {
        "microphone/CMakeLists.txt": _lists_of(project, "microphone", "listens"),
        "microphone/prj.conf": "# prj.conf: the model, a console, and a digital microphone.\n"
        f"{_option(project)}=y\nCONFIG_AUDIO=y\nCONFIG_AUDIO_DMIC=y\n",
        "microphone/src/main.c": _listening(project),
    }
    return {
        **(heard if project.frontend else {}),
        **{f"src/{path}": text for path, text in project.sources.items()},
        "zephyr/module.yml": _module(project),
        "CMakeLists.txt": _lists(project),
        "Kconfig": _kconfig(project),
        "sample/CMakeLists.txt": _lists_of(project, "sample", "runs"),
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


def _lists_of(project: Project, folder: str, does: str) -> str:
    return f"""\
# CMakeLists.txt: an application that {does} with {project.identifier}; west build -b BOARD {folder}
cmake_minimum_required(VERSION 3.20.0)
list(APPEND ZEPHYR_EXTRA_MODULES ${{CMAKE_CURRENT_SOURCE_DIR}}/..)
find_package(Zephyr REQUIRED HINTS $ENV{{ZEPHYR_BASE}})
project({project.identifier}_{folder} C)
target_sources(app PRIVATE src/main.c)
"""


def _main(project: Project) -> str:
    return (
        f"/* main.c: runs {project.identifier} once a second and prints which output is the largest. */\n"
        f"#include <zephyr/kernel.h>\n\n{INCLUDES[project.frontend]}\n{body(project)}\n"
        "int main(void) {\n    ear_model_init();\n    while (1) {\n"
        '        printk("best output: %u\\n", best_output());\n        k_sleep(K_SECONDS(1));\n    }\n}\n'
    )


def _listening(project: Project) -> str:
    return _LISTENING.replace("@HEARING@", hearing(project)).replace("@INCLUDES@", INCLUDES[True])


_LISTENING = """\
/* main.c: listens through a digital microphone and prints the place of the largest output.
 *
 * The board's devicetree, or your overlay, labels the microphone's interface dmic_dev. Zephyr 3.6 or later.
 */
#include <stdbool.h>
#include <string.h>
#include <zephyr/audio/dmic.h>
#include <zephyr/device.h>
#include <zephyr/kernel.h>

@INCLUDES@
@HEARING@
#define BLOCK_BYTES (EAR_FE_RATE / 50 * sizeof(int16_t)) /* 20 ms */
K_MEM_SLAB_DEFINE_STATIC(blocks, BLOCK_BYTES, 8, 4);

static int start(const struct device *microphone) {
    struct pcm_stream_cfg stream = {
        .pcm_rate = EAR_FE_RATE,
        .pcm_width = 16,
        .block_size = BLOCK_BYTES,
        .mem_slab = &blocks,
    };
    struct dmic_cfg config = {
        .io = {
            .min_pdm_clk_freq = 1000000,
            .max_pdm_clk_freq = 3500000,
            .min_pdm_clk_dc = 40,
            .max_pdm_clk_dc = 60,
        },
        .streams = &stream,
        .channel = {
            .req_num_streams = 1,
            .req_num_chan = 1,
            .req_chan_map_lo = dmic_build_channel_map(0, 0, PDM_CHAN_LEFT),
        },
    };
    int wrong = device_is_ready(microphone) ? dmic_configure(microphone, &config) : -1;
    return wrong ? wrong : dmic_trigger(microphone, DMIC_TRIGGER_START);
}

int main(void) {
    const struct device *microphone = DEVICE_DT_GET(DT_NODELABEL(dmic_dev));
    ear_model_init();
    int wrong = start(microphone);
    while (!wrong) {
        void *block;
        size_t bytes;
        wrong = dmic_read(microphone, 0, &block, &bytes, 1000);
        if (wrong)
            break;
        for (uint32_t i = 0; i < bytes / sizeof(int16_t); ++i)
            if (hear(((const int16_t *)block)[i]))
                printk("best output: %u\\n", best_output());
        k_mem_slab_free(&blocks, block);
    }
    printk("microphone: error %d\\n", wrong);
    return 0;
}
"""
