#!/usr/bin/env bash
# Runs the tests behind the twenty items of Gate 1 and writes reports/gate1.md and reports/gate1.json:
#
#   scripts/generate_gate1_report.sh                    built here by cargo
#   scripts/generate_gate1_report.sh --bundle DIR       built by scripts/bundle.sh, on a machine without cargo
#
# What only a machine with the sources, a compiler and a network can run is recorded there and merged where the report is made:
#
#   scripts/generate_gate1_report.sh --only api,compile_fail,device,driver,tokenizer,cli --record built.json
#   scripts/generate_gate1_report.sh --bundle DIR --merge built.json
#
# --help has the rest. Exit code 0: all items passed; 1: not all; 2: a pattern of tests/gate1.toml finds no
# test, or what was recorded does not fit together.
exec python3 "$(dirname "$0")/gate1.py" "$@"
