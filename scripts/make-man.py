#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes micropod.1 (man(7)) from what the program says of itself: every verb, every option.
usage: make-man.py MICROPOD VERSION OUTPUT_FILE"""
import re
import subprocess
import sys


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(['.])", r"\\&\1", text, flags=re.MULTILINE)


def help_of(micropod, *words):
    return subprocess.run([micropod, *words, "--help"], check=True, capture_output=True, text=True).stdout


def options(text):
    """(option, what it is) of a part of a help text."""
    for short, rest in re.findall(r"^  (-\w,|   ) (--.*)$", text, re.MULTILINE):
        option, _, words = re.sub(r"^(\S+(?: \S+)?)  +", r"\1\0", rest).partition("\0")
        if not words:  # too long for its column
            option, _, words = rest.partition(" ")
            if words and not words[0].islower():
                value, _, words = words.partition(" ")
                option += " " + value
        yield (short.strip() + " " + option).strip(), words.strip()


def put_options(out, text):
    for option, words in options(text):
        names, _, value = option.partition(" --")
        name = option if not value else names + " --" + value
        flag, _, argument = name.rpartition(" ") if re.search(r" [A-Za-z\[]", name) and not name.rpartition(" ")[2].startswith("-") else (name, "", "")
        out.append(".TP\n\\fB" + escape(flag) + "\\fP" + (f" \\fI{escape(argument)}\\fP" if argument else ""))
        out.append(escape(words) if words else "\\&")


def main():
    micropod, version, target = sys.argv[1:]
    first = help_of(micropod)
    verbs = re.findall(r"^  ([a-z-]+(?: [a-z]+)?) +([A-Z].*)$", first.split("Commands:")[1].split("Options:")[0], re.MULTILINE)
    out = [f'.TH MICROPOD 1 "" "micropod {version}" "User Commands"', ".SH NAME", "micropod \\- run OCI images, each in a virtual machine of its own",
           ".SH SYNOPSIS", ".B micropod", ".RI [ options ]", ".I command", ".RI [ argument ...]", ".SH OPTIONS"]
    put_options(out, first.split("\nOptions:")[1])
    out.append(".SH COMMANDS")
    for verb, summary in verbs:
        if verb in ("server", "runner", "token"):  # programs of their own, which say it themselves
            out += [f".SS {escape(verb)}", escape(summary) + f". See \\fBmicropod {verb} \\-\\-help\\fP."]
            continue
        text = help_of(micropod, *verb.split())
        usage = text.splitlines()[0].removeprefix(f"Usage: micropod {verb}").strip()
        out += [f".SS {escape(verb)} {escape(usage)}".rstrip(), escape(summary) + "."]
        put_options(out, text.split("\nGlobal options:")[0].partition("\nOptions:")[2])
    out += [".SH FILES", ".TP", ".I /etc/micropod/micropod.yaml, ~/.config/micropod/micropod.yaml",
            "Settings; \\fBmicropod config show\\fP lists them and says where each was set.",
            ".SH EXIT STATUS", "That of the program that was run; 125 if micropod itself failed, 126 if the program could not be executed, 127 if it was not found,",
            "124 if its time was over.", ".SH SEE ALSO", ".BR docker\\-run (1)"]
    with open(target, "w") as file:
        file.write("\n".join(out) + "\n")


main()
