#!/bin/sh
# Fetches real vocabularies with texts and their token ids, llama.cpp's own test vectors, for the tests in
# runtime/tests/tokenizer.rs; and real chat templates, with what Jinja2 makes of them, for those in
# runtime/tests/chat_template.rs. They come from the source package of llama-cpp-python, which carries llama.cpp.
#
# usage: scripts/fetch-tokenizer-vectors.sh [FOLDER]
# FOLDER is by default where the tests look; elsewhere, name it to them in WORKER_ORCD_TOKENIZER_VECTORS, and its file
# chat-templates/reference.json in WORKER_ORCD_CHAT_TEMPLATES.
set -eu

version=0.3.36
jinja=3.1.6
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
families="gpt-2 llama-bpe qwen2 qwen35 refact starcoder command-r mpt falcon deepseek-llm deepseek-coder llama-spm phi-3 gemma-4"

folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/worker-orcd/tokenizer-vectors}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python3 -m pip download --quiet --no-deps --no-binary llama-cpp-python \
    --dest "$scratch" "llama-cpp-python==$version"
archive=$scratch/llama_cpp_python-$version.tar.gz
echo "$sha256  $archive" | sha256sum --check --quiet

set --
for family in $families; do
    for extension in "" .inp .out; do
        set -- "$@" "llama_cpp_python-$version/vendor/llama.cpp/models/ggml-vocab-$family.gguf$extension"
    done
done
mkdir -p "$folder"
tar -xzf "$archive" -C "$folder" --strip-components=4 "$@"

templates=$folder/chat-templates
mkdir -p "$templates"
tar -xzf "$archive" -C "$templates" --strip-components=5 "llama_cpp_python-$version/vendor/llama.cpp/models/templates"
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check "jinja2==$jinja"
"$scratch/venv/bin/python" "$(dirname "$0")/chat-template-reference.py" "$templates" >"$scratch/reference.json"
mv "$scratch/reference.json" "$templates"
echo "tokenizer vectors of: $families, and chat templates, in $folder"
