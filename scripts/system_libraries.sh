#!/usr/bin/env bash
# Make sure that the system libraries of a Qt and OpenGL program are there, and a virtual screen.
#
# Usage: scripts/system_libraries.sh
# Installs what is missing where apt and root (or sudo without a password) are at hand. Elsewhere it
# names what is missing and goes on: only the viewer and the GUI tests need these libraries.
set -u

packages=(
  xvfb xauth libgl1 libegl1 libgl1-mesa-dri libxkbcommon-x11-0 libdbus-1-3 libfontconfig1
  libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0
  libxcb-shape0 libxcb-xfixes0 libxcb-xinerama0 libxcb-xkb1
)

[ "$(uname -s)" = Linux ] || exit 0
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  command -v Xvfb >/dev/null && exit 0
  echo "note: this system has no apt. The viewer needs OpenGL and the xcb libraries of Qt;"
  echo "      the GUI tests also need Xvfb. Install them with your package manager, under Debian's"
  echo "      names: ${packages[*]}"
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" ||
    missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo)
  else
    echo "note: these system libraries are missing and installing them needs an administrator:"
    echo "      sudo apt-get install ${missing[*]}"
    echo "      Without them the command line works; the viewer and the GUI tests do not."
    exit 0
  fi
fi
echo "installing system libraries: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
if ! "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
  "${as_root[@]}" apt-get update -qq >/dev/null
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    echo "note: apt could not install: ${missing[*]}"
fi
