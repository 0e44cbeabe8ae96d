#!/bin/sh
# Installs the released flexwasm for Linux on x86-64 into ~/.local/bin, or into the folder that FLEXWASM_INSTALL names.
# FLEXWASM_RELEASES names where the release's files are, if not where this script came from.
set -eu

main() {
  releases=${FLEXWASM_RELEASES:-https://github.com/@REPOSITORY@/releases/latest/download}
  folder=${FLEXWASM_INSTALL:-${HOME:+$HOME/.local/bin}}
  case $releases in
    *@REPOSITORY@*) fail "this is not the script of a release: name the folder of one with FLEXWASM_RELEASES" ;;
  esac
  [ -n "$folder" ] || fail "HOME is not set: name a folder with FLEXWASM_INSTALL"
  system=$(uname -s) machine=$(uname -m)
  case $system/$machine in
    Linux/x86_64 | Linux/amd64) ;;
    *) fail "there is no release for $system on $machine: build it with 'cargo install --locked --path host' in the repository" ;;
  esac
  for tool in curl tar sha256sum; do
    command -v "$tool" >/dev/null || fail "$tool is needed and was not found: install it, then run this again"
  done
  if ! mkdir -p "$folder" 2>/dev/null || ! [ -w "$folder" ]; then
    fail "$folder cannot be written to: name another folder with FLEXWASM_INSTALL"
  fi

  # In the folder itself, so that the last step is a rename.
  work=$(mktemp -d "$folder/.flexwasm-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM
  fetch SHA256SUMS
  archive=$(sed -n 's/^[0-9a-f]\{64\}  \(flexwasm-[0-9A-Za-z.-]*-x86_64-linux\.tar\.gz\)$/\1/p' "$work/SHA256SUMS")
  [ "$(printf '%s\n' "$archive" | grep -c .)" = 1 ] || fail "$releases/SHA256SUMS does not name one archive: is that a release?"
  fetch "$archive"
  grep "  $archive\$" "$work/SHA256SUMS" | (cd "$work" && sha256sum -c - >/dev/null 2>&1) ||
    fail "$archive is not what SHA256SUMS says: nothing is installed; run this again, and report it if that does not help"
  tar -xzf "$work/$archive" -C "$work" || fail "$archive cannot be unpacked"
  binary=$work/${archive%.tar.gz}/flexwasm
  version=$("$binary" --version) || fail "the flexwasm in $archive does not start on this machine: nothing is installed"
  mv -f "$binary" "$folder/flexwasm"
  echo "$version is installed as $folder/flexwasm"
  case :${PATH:-}: in
    *":$folder:"*) echo "Next: flexwasm new hello" ;;
    *) echo "Next: PATH=$folder:\$PATH; flexwasm new hello" ;;
  esac
}

fetch() {
  curl --fail --silent --show-error --location --retry 2 --output "$work/$1" "$releases/$1" 2>"$work/errors" ||
    fail "$releases/$1 cannot be fetched ($(tail -n 1 "$work/errors"))"
}

fail() {
  echo "install.sh: $1" >&2
  exit 1
}

# The last line: a script that was cut off on its way does nothing.
main
