#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""generate.py PROTOC PROTOC_C SOURCE_ROOT BUILD_ROOT DEPFILE dir/name.proto (below SOURCE_ROOT, or its full path)

Writes below BUILD_ROOT: dir/name.pb-c.[ch] (messages) and dir/name.desc.[ch], the serialized FileDescriptorSet
of the file and all that it imports as a C array, for reflection. A proto in a folder has the folder in the
array's name: grpc_health_v1_health_desc.
"""

import os
import re
import subprocess
import sys
import tempfile


def descriptor_files(data, path, symbol):
    rows = ",\n".join("\t" + ", ".join(str(b) for b in data[i:i + 20]) for i in range(0, len(data), 20))
    with open(path + ".desc.h", "w") as f:
        f.write(f"/* Generated from {os.path.basename(path)}.proto */\n#pragma once\n\n"
                "#include <stddef.h>\n#include <stdint.h>\n\n"
                f"extern const uint8_t {symbol}_desc[];\nextern const size_t {symbol}_desc_len;\n")
    with open(path + ".desc.c", "w") as f:
        f.write(f"#include \"{os.path.basename(path)}.desc.h\"\n\nconst uint8_t {symbol}_desc[] = {{\n{rows}\n}};\n"
                f"const size_t {symbol}_desc_len = sizeof({symbol}_desc);\n")


def messages(protoc_c, source, build, name):
    """protoc-c makes a member of each method, also of one whose name is a keyword of C; nothing here uses them."""
    with open(os.path.join(source, name)) as f:
        text = re.sub(r"\brpc (Register|Default|Switch|Continue)\(", r"rpc \1_(", f.read())
    with tempfile.TemporaryDirectory(dir=build) as folder:
        copy = os.path.join(folder, name)
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        with open(copy, "w") as f:
            f.write(text)
        subprocess.run([protoc_c, "-I" + folder, "-I" + source, "--c_out=" + build, name], check=True)


def main():
    protoc, protoc_c, source, build, depfile, name = sys.argv[1:]
    if os.path.isabs(name):
        name = os.path.relpath(name, source)
    stem = name.removesuffix(".proto")
    path = os.path.join(build, stem)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    messages(protoc_c, source, build, name)
    subprocess.run([protoc, "-I" + source, "--include_imports", "--descriptor_set_out=" + path + ".ds",
                    "--dependency_out=" + path + ".d", name], check=True)
    with open(path + ".ds", "rb") as f:
        descriptor_files(f.read(), path, stem.replace("/", "_").replace("-", "_"))
    with open(path + ".d") as f:
        imports = f.read().split(":", 1)[1]
    os.unlink(path + ".d")
    os.unlink(path + ".ds")
    with open(depfile, "w") as f:
        f.write(f"{path}.pb-c.c:{imports}")


main()
