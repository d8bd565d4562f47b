#!/usr/bin/env python3
"""Writes THIRD-PARTY.txt: the licences and notices of everything that becomes part of the program. Reads
the sources that cargo has fetched, and the npm packages that Swagger UI's bundle contains."""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SWAGGER_UI = "5.17.14"
# Packages of its bundle, as its source map names them.
BUNDLED = (ROOT / "scripts/swagger-ui-bundle.txt").read_text().split()
TARGET = "x86_64-unknown-linux-gnu"
LEGAL = re.compile(r"^(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
PREFERRED = ["MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "Zlib"]
# The licence of a package that has no file of it.
MIT = (ROOT / "LICENSE").read_text().strip("\n")
OWN_HOLDER = "2026 The Fullon Master API authors"


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options).stdout


def crates():
    """The packages that are linked, without those that only build or test it."""
    cargo = os.environ.get("CARGO", "cargo")
    metadata = json.loads(run(cargo, "metadata", "--locked", "--format-version=1", f"--filter-platform={TARGET}"))
    packages = {package["id"]: package for package in metadata["packages"]}
    tree = run(cargo, "tree", "--locked", "--edges=normal", f"--target={TARGET}", "--prefix=none", "--format={p}")
    linked = {" ".join(line.split()[:2]) for line in tree.splitlines() if "(/" not in line}
    return sorted(
        (it for it in packages.values() if f"{it['name']} v{it['version']}" in linked),
        key=lambda it: (it["name"], it["version"]),
    )


def chosen(expression, names):
    """The files of the licence that is used. Of alternatives, one is enough."""
    notices = [name for name in names if re.match("notice|copyright", name, re.IGNORECASE)]
    alternatives = re.split(r"\s+OR\s+|/", expression or "")
    if " AND " not in (expression or "") and len(alternatives) > 1:
        for licence in (it for it in PREFERRED if it in alternatives):
            found = [name for name in names if licence.split("-")[0].lower() in name.lower()]
            if found:
                return found + notices
    return names


def mit(holder):
    assert OWN_HOLDER in MIT
    return MIT.replace(OWN_HOLDER, holder)


def texts(directory, expression, where, authors):
    names = sorted(it.name for it in directory.iterdir() if it.is_file() and LEGAL.match(it.name))
    found = [(directory / name).read_text(errors="replace") for name in dict.fromkeys(chosen(expression, names))]
    if not found and "MIT" in (expression or ""):
        return [mit(", ".join(authors) or f"the authors of {where}")]
    if not found and expression == "Apache-2.0":
        # Its text is the same for all.
        return texts(directory.parent / "swagger-ui", expression, where, authors)[:1]
    if not found:
        sys.exit(f"no licence file: {where} ({expression})")
    return [re.sub(r"[ \t\f]+\n", "\n", text.replace("\r\n", "\n")).strip("\n") for text in found]


def main():
    tools = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "tools/swagger-ui"
    tools.mkdir(parents=True, exist_ok=True)
    (tools / "package.json").write_text("{}")
    quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    install = ["npm", "install", "--prefix", str(tools), *quiet]
    run(*install, f"swagger-ui@{SWAGGER_UI}")
    modules = tools / "node_modules"
    # Those that come from its build instead of its dependencies.
    missing = [name for name in BUNDLED if not (modules / name).exists()]
    if missing:
        run(*install, *missing)

    entries = []
    for package in crates():
        name = f"{package['name']} {package['version']}"
        directory = pathlib.Path(package["manifest_path"]).parent
        entries.append((name, package["license"], texts(directory, package["license"], name, package["authors"])))
    entries.append(("the Rust standard library", "MIT OR Apache-2.0", [mit("The Rust Project contributors")]))
    for name in ["swagger-ui", *BUNDLED]:
        directory = modules / name
        package = json.loads((directory / "package.json").read_text())
        # Its readme says so.
        licence = package.get("license", "MIT" if name == "format" else None)
        author = package.get("author") or f"the authors of {name}"
        author = author["name"] if isinstance(author, dict) else author
        entries.append((f"{name} (npm, in the page /docs)", licence, texts(directory, licence, name, [author])))

    lines = [
        "The program fullon contains the software below, under these licences. `make third-party` writes",
        "this file. A static program, such as the one of Containerfile, also contains the C library of the",
        "system that it was built on: glibc (LGPL-2.1-or-later) of Debian, whose source Debian offers.",
        "",
    ]
    lines += [f"{name}: {licence}" for name, licence, _ in entries]
    users = {}
    for name, _, found in entries:
        for text in found:
            users.setdefault(text, []).append(name)
    for text, names in users.items():
        lines += ["", "=" * 80, *names, "-" * 80, "", text]
    (ROOT / "THIRD-PARTY.txt").write_text("\n".join(lines) + "\n")


main()
