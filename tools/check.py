#!/usr/bin/env python3
"""Holds the tree to the rules that a compiler does not check; run by `make check`.

The folder order is read from the table in src/CMakeLists.txt, so there is one place to change it. Every finding is printed
as `file:line: what to do`; warnings do not fail the check.

Usage: tools/check.py [--no-format] [ROOT]
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LINES_WARN = 400
LINES_MAX = 600
SOURCE_SUFFIXES = {".h", ".hpp", ".cc"}
SOURCE_FOLDERS = ("src", "include", "bench", "tests", "fuzz")
SCRIPT_SUFFIXES = {".py", ".sh", ".cmake"}

# External headers, and the library in the table's LIBS that allows them.
EXTERNAL = {
    "httplib.h": "PkgConfig::HTTPLIB",
    "nlohmann/": "nlohmann_json::nlohmann_json",
    "CLI/": "CLI11::CLI11",
    "toml++/": "PkgConfig::TOML",
    "cap-ng.h": "PkgConfig::CAPNG",
    "systemd/": "PkgConfig::SYSTEMD",
    "seccomp.h": "PkgConfig::SECCOMP",
    "isa-l": "PkgConfig::ISAL",
    "fuse3/": "PkgConfig::FUSE3",
    "fuse_lowlevel.h": "PkgConfig::FUSE3",
    "numa.h": "PkgConfig::NUMA",
    "numaif.h": "PkgConfig::NUMA",
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
# In two pieces, so that this file passes its own check.
LEFTOVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
SLEEP = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep)\b")
# Calls that change files on a device. In these folders all of them go through the seam, which tells the power-cut test.
DURABLE_FOLDERS = ("device", "store")
DURABLE_SEAM = ("src/device/medium.cc", "src/device/ram_home.cc")  # nothing of a ram: device lasts
DURABLE = re.compile(r"\bsys::(write_fully|copy_through|set_size|punch_hole|allocate|sync_data|rename_file|remove_file"
                     r"|sync_directory)\b"
                     r"|(?<![\w.>])::(pwrite\w*|writev?|f?truncate|fallocate|fsync|fdatasync|msync|sync_file_range|rename\w*"
                     r"|unlink\w*|mkdir\w*|link\w*|symlink\w*)\s*\(|\bO_(CREAT|TRUNC)\b")
README_ROW = re.compile(r"^\|\s*`(\w+)`\s*\|([^|]*)\|([^|]*)\|\s*$")


class Folder:
    """One row of the table: what a folder of src/ may use."""

    def __init__(self, name, line, depends, api, libs):
        self.name = name
        self.line = line
        self.depends = depends
        self.api = api
        self.libs = libs


class Report:
    def __init__(self):
        self.errors = []
        self.warnings = []

    def error(self, path, line, text):
        self.errors.append(f"{path}:{line}: {text}")

    def warn(self, path, line, text):
        self.warnings.append(f"{path}:{line}: warning: {text}")


def list_files(root):
    """Tracked and untracked files that git does not ignore; all files where there is no git."""
    if (root / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
        names = sorted(set(os.fsdecode(listed).split("\0")) - {""})
    else:
        names = []
        for folder, subfolders, files in os.walk(root):
            subfolders[:] = [s for s in subfolders if s not in (".git", "build")]
            names += [str((Path(folder) / f).relative_to(root)) for f in files]
    return [Path(n) for n in sorted(names) if (root / n).is_file()]


def read_table(root, report):
    """The refault_folder() calls of src/CMakeLists.txt, by name and in order."""
    path = Path("src/CMakeLists.txt")
    if not (root / path).is_file():
        report.error(path, 1, "is missing; it holds the table of folders")
        return {}
    # A comment may not hide a call, and the line numbers must stay.
    text = re.sub(r"#[^\n]*", "", (root / path).read_text(encoding="utf-8"))
    table = {}
    for call in re.finditer(r"^\s*refault_folder\(([^)]*)\)", text, re.MULTILINE):
        line = text.count("\n", 0, call.start(1)) + 1
        words = call.group(1).split()
        lists = {"DEPENDS": [], "API": [], "LIBS": []}
        into = None
        for word in words[1:]:
            if word in lists:
                into = lists[word]
            elif into is None:
                report.error(path, line, f"'{word}' must follow DEPENDS, API or LIBS")
            else:
                into.append(word)
        if not words or words[0] in table:
            report.error(path, line, "name the folder, and only once")
            continue
        for other in lists["DEPENDS"] + lists["API"]:
            # Naming only earlier folders is what keeps the order free of cycles.
            if other not in table:
                report.error(path, line, f"{words[0]} depends on {other}, which does not stand above it; "
                                         "move the code or the row")
        table[words[0]] = Folder(words[0], line, lists["DEPENDS"], lists["API"], lists["LIBS"])
    if not table:
        report.error(path, 1, "has no refault_folder() calls; the folder order cannot be checked")
    return table


def includes_of(lines):
    for number, text in enumerate(lines, 1):
        match = INCLUDE.match(text)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def check_public_include(path, number, is_quoted, target, report):
    if is_quoted:
        report.error(path, number, f'public headers include nothing internal; remove "{target}", '
                                   "or write <refault/...> for a public header")
        return
    for header, library in EXTERNAL.items():
        if target.startswith(header):
            report.error(path, number, f"public headers must not need {library}; remove <{target}>")


def check_folder_include(path, number, is_quoted, target, folder, root, report):
    first = target.split("/")[0]
    if is_quoted:
        if not (root / "src" / target).is_file():
            report.error(path, number, f'there is no src/{target}; write own includes from src/, as "base/result.h", '
                                       "and others with <>")
        elif first != folder.name and first not in folder.depends:
            allowed = ", ".join(folder.depends) or "no other folder"
            report.error(path, number, f"{folder.name} may not include {first} (allowed: {allowed}); "
                                       "move the code down, or change the table in src/CMakeLists.txt")
        return
    if first == "refault" and folder.name != "client" and "client" not in folder.api + folder.depends:
        report.error(path, number, f"{folder.name} may not use the client library; "
                                   "add API client to its row in src/CMakeLists.txt if it should")
    for header, library in EXTERNAL.items():
        if target.startswith(header) and library not in folder.libs:
            report.error(path, number, f"{folder.name} may not use {library}; "
                                       "keep it out, or add it to LIBS of its row in src/CMakeLists.txt")


def check_include_cycles(graph, report):
    """graph: file -> [(line, included file)]. Reports each include that closes a circle."""
    done, open_files = set(), []

    def visit(path):
        open_files.append(path)
        for number, target in graph.get(path, []):
            if target in open_files:
                circle = open_files[open_files.index(target):] + [target]
                report.error(path, number, "closes a circle of includes; break it: "
                             + " -> ".join(str(p) for p in circle))
            elif target not in done:
                visit(target)
        open_files.pop()
        done.add(path)

    for path in sorted(graph):
        if path not in done:
            visit(path)


def check_includes(root, sources, table, report):
    graph = {}
    for path, lines in sources.items():
        top = path.parts[0]
        folder = table.get(path.parts[1]) if top == "src" and len(path.parts) > 2 else None
        for number, is_quoted, target in includes_of(lines):
            if top == "include":
                check_public_include(path, number, is_quoted, target, report)
            elif folder:
                check_folder_include(path, number, is_quoted, target, folder, root, report)
            if is_quoted and (root / "src" / target).is_file():
                graph.setdefault(path, []).append((number, Path("src") / target))
    check_include_cycles(graph, report)


def check_shape(path, lines, report):
    first = next((text.strip() for text in lines if text.strip()), "")
    if not first.startswith(("//", "/*")):
        report.error(path, 1, "begin with a comment: what this file is for, what always holds, which threads")
    if path.suffix in (".h", ".hpp") and not any(t.strip() == "#pragma once" for t in lines):
        report.error(path, 1, "add #pragma once below the first comment")
    if len(lines) > LINES_MAX:
        report.error(path, LINES_MAX + 1, f"{len(lines)} lines; split it, {LINES_MAX} is the limit")
    elif len(lines) > LINES_WARN:
        report.warn(path, LINES_WARN + 1, f"{len(lines)} lines; think about splitting it")


def check_durable(path, lines, report):
    parts = path.parts
    if parts[0] != "src" or len(parts) < 3 or parts[1] not in DURABLE_FOLDERS or path.as_posix() in DURABLE_SEAM:
        return
    if path.name.endswith("_test.cc") or path.name.startswith("test_"):
        return
    for number, text in enumerate(lines, 1):
        found = DURABLE.search(text.split("//")[0])
        if found:
            report.error(path, number, f"{found.group(0).strip('( ')} changes a device's files; go through device/medium.h, "
                                       "which names its row of device/durable_write.h")


def check_words(path, lines, report):
    is_test = path.parts[0] == "tests" or path.name.endswith("_test.cc")
    for number, text in enumerate(lines, 1):
        leftover = LEFTOVER.search(text)
        if leftover:
            report.error(path, number, f"{leftover.group(1)} left; do it, or describe the limit in docs/")
        if is_test and path.suffix in SOURCE_SUFFIXES:
            sleep = SLEEP.search(text.split("//")[0])
            if sleep:
                report.error(path, number, f"no {sleep.group(1)} in tests; wait for a condition or an event instead")


def check_readme(root, table, report):
    path = Path("src/README.md")
    if not (root / path).is_file():
        report.error(path, 1, "is missing; it explains the table of src/CMakeLists.txt")
        return
    rows = {}
    for number, text in enumerate((root / path).read_text(encoding="utf-8").splitlines(), 1):
        match = README_ROW.match(text)
        if match:
            rows[match.group(1)] = (number, re.findall(r"\w+", match.group(3)))
    for name, (number, allowed) in rows.items():
        if name not in table:
            report.error(path, number, f"{name} is not in the table of src/CMakeLists.txt; remove the row or add it there")
        elif allowed != table[name].depends:
            expected = ", ".join(table[name].depends) or "an empty cell"
            report.error(path, number, f"the allowed includes of {name} differ from src/CMakeLists.txt; write: {expected}")
    for name, folder in table.items():
        if name not in rows:
            report.error("src/CMakeLists.txt", folder.line, f"{name} has no row in src/README.md; add one")
    common = [n for n in rows if n in table]
    if common != [n for n in table if n in rows]:
        report.error(path, rows[common[0]][0], "the rows are not in the order of src/CMakeLists.txt; reorder them")


def check_stray_folders(sources, table, report):
    strays = {}
    for path in sources:
        if path.parts[0] == "src" and (len(path.parts) == 2 or path.parts[1] not in table):
            strays.setdefault(path.parts[1], path)
    for name, path in strays.items():
        report.error(path, 1, f"src/{name} is not in the table of src/CMakeLists.txt; add a row or move the file")


def check_version(root, report):
    """The build takes the version from CMakeLists.txt; the sources have it once more, for programs and who includes them."""
    build = re.search(r"^project\(\w+ VERSION ((\d+)\.(\d+)\.\d+)", read_text(root / "CMakeLists.txt"), re.MULTILINE)
    if not build:
        report.error("CMakeLists.txt", 1, "says no version; write: project(NAME VERSION X.Y.Z ...)")
        return
    places = [("src/base/version.h", r'kVersion = "([^"]*)"', build.group(1)),
              ("include/refault/refault.h", r"^#define RF_VERSION_MAJOR (\S*)", build.group(2)),
              ("include/refault/refault.h", r"^#define RF_VERSION_MINOR (\S*)", build.group(3))]
    for path, pattern, expected in places:
        text = read_text(root / path)
        found = re.search(pattern, text, re.MULTILINE)
        if not found:
            report.error(path, 1, f"says no version; the one of CMakeLists.txt is {build.group(1)}")
        elif found.group(1) != expected:
            report.error(path, text.count("\n", 0, found.start(1)) + 1,
                         f"says {found.group(1)}, CMakeLists.txt says {build.group(1)}; write {expected}, or change both")


def read_text(path):
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def check_format(root, sources, report):
    tool = os.environ.get("CLANG_FORMAT", "clang-format")
    if shutil.which(tool) is None:
        report.error(".clang-format", 1, f"{tool} is not installed; run tools/install-deps.sh")
        return
    if not sources:
        return
    command = [tool, "--dry-run", "-Werror", "--style=file", *map(str, sources)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    seen = set()
    for text in result.stderr.splitlines():
        match = re.match(r"(.+?):(\d+):\d+: (?:error|warning): ", text)
        # One finding a file: the way to repair the first repairs all of them.
        if match and match.group(1) not in seen:
            seen.add(match.group(1))
            report.error(match.group(1), match.group(2), "not formatted; run make format")
    if result.returncode != 0 and not seen:
        report.error(".clang-format", 1, f"{tool} failed: {result.stderr.strip()}")


def run(root, with_format=True):
    report = Report()
    files = list_files(root)
    texts = {}
    for path in files:
        is_source = path.suffix in SOURCE_SUFFIXES and path.parts[0] in SOURCE_FOLDERS
        if is_source or path.suffix in SCRIPT_SUFFIXES or path.name in ("CMakeLists.txt", "Makefile"):
            texts[path] = (root / path).read_text(encoding="utf-8").splitlines()
    sources = {p: t for p, t in texts.items() if p.suffix in SOURCE_SUFFIXES}

    table = read_table(root, report)
    check_readme(root, table, report)
    check_stray_folders(sources, table, report)
    check_includes(root, sources, table, report)
    check_version(root, report)
    for path, lines in sources.items():
        check_shape(path, lines, report)
        check_durable(path, lines, report)
    for path, lines in texts.items():
        check_words(path, lines, report)
    if with_format:
        check_format(root, sources, report)
    return report


def main():
    parser = argparse.ArgumentParser(description="Check the rules of the tree.")
    parser.add_argument("root", nargs="?", default=Path(__file__).resolve().parent.parent, type=Path)
    parser.add_argument("--no-format", action="store_true", help="skip clang-format")
    arguments = parser.parse_args()
    report = run(arguments.root.resolve(), not arguments.no_format)
    for text in report.warnings + report.errors:
        print(text)
    print(f"check: {len(report.errors)} errors, {len(report.warnings)} warnings")
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
