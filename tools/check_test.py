#!/usr/bin/env python3
"""Shows that check.py finds what it should: each test breaks one rule in a small tree that is otherwise clean."""

import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import check

TABLE = """# refault_folder(ghost)
refault_folder(base LIBS PkgConfig::ISAL)
refault_folder(sys DEPENDS base)
refault_folder(client DEPENDS base sys)
refault_folder(cli DEPENDS base API client
  LIBS CLI11::CLI11)
"""

README = """# Folders

| folder | what | may include |
|---|---|---|
| `base` | basics | |
| `sys` | system calls | base |
| `client` | library | base, sys |
| `cli` | commands | base |
"""

HEADER = "// A header.\n#pragma once\n"
API = """/* The API. */
#pragma once

#include <stdint.h>
#define RF_VERSION_MAJOR 2
#define RF_VERSION_MINOR 5
"""
VERSION = HEADER + '\nconstexpr const char* kVersion = "2.5.1";\n'
CLEAN = {
    "CMakeLists.txt": "project(small VERSION 2.5.1 LANGUAGES CXX)\n",
    "src/base/version.h": VERSION,
    "src/CMakeLists.txt": TABLE,
    "src/README.md": README,
    "src/base/a.h": HEADER,
    "src/base/a.cc": '// A source.\n#include "base/a.h"\n\n#include <isa-l/crc.h>\n',
    "src/sys/file.h": HEADER + '\n#include "base/a.h"\n',
    "src/client/api.cc": '// The API.\n#include <refault/refault.h>\n\n#include "sys/file.h"\n',
    "src/cli/main.cc": "// The tool.\n#include <refault/refault.h>\n\n#include <CLI/CLI.hpp>\n",
    "include/refault/refault.h": API,
    "tests/pull_test.cc": '// A test.\n#include "sys/file.h"\n',
}


class CheckTest(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="refault-check-"))
        self.addCleanup(shutil.rmtree, self.root)
        for name, text in CLEAN.items():
            self.write(name, text)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def expect(self, place, text, with_format=False):
        """The only finding stands at `place` (file:line) and says `text`."""
        errors = check.run(self.root, with_format).errors
        self.assertEqual(len(errors), 1, errors)
        self.assertTrue(errors[0].startswith(place + ": "), errors[0])
        self.assertIn(text, errors[0])

    def test_clean_tree_passes(self):
        report = check.run(self.root, with_format=False)
        self.assertEqual(report.errors + report.warnings, [])

    def test_include_of_higher_folder(self):
        self.write("src/base/b.cc", '// B.\n#include "sys/file.h"\n')
        self.expect("src/base/b.cc:2", "base may not include sys")

    def test_internal_header_of_folder_used_by_api(self):
        self.write("src/client/session.h", HEADER)
        self.write("src/cli/b.cc", '// B.\n#include "client/session.h"\n')
        self.expect("src/cli/b.cc:2", "cli may not include client")

    def test_public_header_in_folder_without_api(self):
        self.write("src/sys/b.cc", "// B.\n#include <refault/refault.h>\n")
        self.expect("src/sys/b.cc:2", "may not use the client library")

    def test_include_that_is_not_from_src(self):
        self.write("src/base/b.cc", '// B.\n#include "a.h"\n')
        self.expect("src/base/b.cc:2", "there is no src/a.h")

    def test_external_library_of_another_folder(self):
        self.write("src/sys/b.cc", "// B.\n#include <httplib.h>\n")
        self.expect("src/sys/b.cc:2", "may not use PkgConfig::HTTPLIB")

    def test_public_header_with_internal_include(self):
        self.write("include/refault/b.hpp", HEADER + '#include "base/a.h"\n')
        self.expect("include/refault/b.hpp:3", "nothing internal")

    def test_public_header_with_external_library(self):
        self.write("include/refault/b.hpp", HEADER + "#include <nlohmann/json.hpp>\n")
        self.expect("include/refault/b.hpp:3", "must not need nlohmann_json")

    def test_table_that_depends_upwards(self):
        self.write("src/CMakeLists.txt", TABLE.replace("(base LIBS", "(base DEPENDS cli LIBS"))
        self.write("src/README.md", README.replace("| basics | |", "| basics | cli |"))
        self.expect("src/CMakeLists.txt:2", "does not stand above it")

    def test_version_of_the_sources_that_the_build_does_not_have(self):
        self.write("src/base/version.h", VERSION.replace("2.5.1", "2.5.0"))
        self.expect("src/base/version.h:4", "says 2.5.0, CMakeLists.txt says 2.5.1")

    def test_version_of_the_public_header_that_the_build_does_not_have(self):
        self.write("include/refault/refault.h", API.replace("MAJOR 2", "MAJOR 3"))
        self.expect("include/refault/refault.h:5", "says 3, CMakeLists.txt says 2.5.1; write 2")

    def test_public_header_without_a_version(self):
        self.write("include/refault/refault.h", API.replace("RF_VERSION_MINOR 5", "OTHER 5"))
        self.expect("include/refault/refault.h:1", "says no version")

    def test_circle_of_includes(self):
        self.write("src/base/b.h", HEADER + '#include "base/c.h"\n')
        self.write("src/base/c.h", HEADER + '#include "base/b.h"\n')
        self.expect("src/base/c.h:3", "circle of includes")

    def test_no_first_comment(self):
        self.write("tests/b_test.cc", "#include <string>\n")
        self.expect("tests/b_test.cc:1", "begin with a comment")

    def test_no_pragma_once(self):
        self.write("src/base/b.h", "// B.\nint b();\n")
        self.expect("src/base/b.h:1", "#pragma once")

    def test_long_file_fails(self):
        self.write("src/base/b.cc", "// B.\n" + "\n" * check.LINES_MAX)
        self.expect(f"src/base/b.cc:{check.LINES_MAX + 1}", "split it")

    def test_longish_file_only_warns(self):
        self.write("src/base/b.cc", "// B.\n" + "\n" * check.LINES_WARN)
        report = check.run(self.root, with_format=False)
        self.assertEqual(report.errors, [])
        self.assertEqual(len(report.warnings), 1)

    def test_leftover_marker(self):
        for word in ("TO" "DO", "FIX" "ME", "XX" "X", "HA" "CK"):
            with self.subTest(word):
                self.write("src/base/b.cc", f"// B.\n// {word}: later\n")
                self.expect("src/base/b.cc:2", f"{word} left")

    def test_name_template_is_no_marker(self):
        self.write("src/base/b.cc", '// B.\nconst char* name = "b-XX' 'XXXX";\n')
        self.assertEqual(check.run(self.root, with_format=False).errors, [])

    def test_sleep_in_unit_and_integration_test(self):
        for name in ("src/base/b_test.cc", "tests/support.cc"):
            with self.subTest(name):
                self.write(name, "// B.\nvoid f() { usleep(1); }\n")
                self.expect(f"{name}:2", "no usleep in tests")
                (self.root / name).unlink()

    def test_sleep_outside_tests_is_allowed(self):
        self.write("src/base/b.cc", "// B.\nvoid f() { usleep(1); }\n")
        self.assertEqual(check.run(self.root, with_format=False).errors, [])

    def test_durable_calls_go_through_the_seam(self):
        self.write("src/CMakeLists.txt", TABLE + "refault_folder(device DEPENDS base sys)\n")
        self.write("src/README.md", README + "| `device` | devices | base, sys |\n")
        call = '// D.\n#include "sys/file.h"\nvoid f() { %s; }\n'
        self.write("src/device/medium.cc", call % "sys::sync_data(1)")
        self.write("src/device/d_test.cc", call % "::unlink(name)")
        self.write("src/device/d.cc", call % "store.unlink(name); sys::read_fully(1); device.sync()")
        self.assertEqual(check.run(self.root, with_format=False).errors, [])
        for text in ("sys::sync_data(1)", "::fdatasync(1)", "::renameat(1, a, 1, b)", "::open(name, O_RDWR | O_CREAT)"):
            self.write("src/device/d.cc", call % text)
            self.expect("src/device/d.cc:3", "device/medium.h")

    def test_folder_missing_in_readme(self):
        self.write("src/README.md", README.replace("| `sys` | system calls | base |\n", ""))
        self.expect("src/CMakeLists.txt:3", "no row in src/README.md")

    def test_folder_missing_in_table(self):
        self.write("src/README.md", README + "| `ghost` | nothing | base |\n")
        self.expect("src/README.md:9", "ghost is not in the table")

    def test_readme_allows_something_else(self):
        self.write("src/README.md", README.replace("| library | base, sys |", "| library | base |"))
        self.expect("src/README.md:7", "write: base, sys")

    def test_readme_in_another_order(self):
        rows = ["| `sys` | system calls | base |\n", "| `client` | library | base, sys |\n"]
        self.write("src/README.md", README.replace(rows[0] + rows[1], rows[1] + rows[0]))
        self.expect("src/README.md:5", "order")

    def test_folder_without_table_row(self):
        self.write("src/ghost/b.cc", "// B.\n")
        self.expect("src/ghost/b.cc:1", "src/ghost is not in the table")

    def test_missing_table(self):
        (self.root / "src/CMakeLists.txt").unlink()
        errors = check.run(self.root, with_format=False).errors
        self.assertIn("src/CMakeLists.txt:1: is missing", errors[0])

    @unittest.skipUnless(shutil.which("clang-format"), "clang-format is not installed")
    def test_format(self):
        self.write(".clang-format", "BasedOnStyle: Google\n")
        self.write("src/base/b.cc", "// B.\nint  b( );\n")
        self.expect("src/base/b.cc:2", "make format", with_format=True)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "--quiet"] + sys.argv[1:])
