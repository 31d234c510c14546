#!/usr/bin/env bash
# Run a command with a screen: the one that is there, or a virtual one.
#
# Usage: scripts/with_screen.sh COMMAND [ARGUMENT ...]
# PLIMSEG_VIRTUAL_SCREEN=1 takes a virtual screen even where a real one is there.
# PLIMSEG_SCREEN_SIZE=1920x1080 is the size of the virtual screen.
set -eu
real=${DISPLAY:-}${WAYLAND_DISPLAY:-}
if [ "$(uname -s)" != Linux ] || { [ -n "$real" ] && [ -z "${PLIMSEG_VIRTUAL_SCREEN:-}" ]; }; then
  exec "$@"
fi
if ! command -v xvfb-run >/dev/null; then
  echo "error: there is no screen and no Xvfb. Install it: sudo apt-get install xvfb xauth" >&2
  exit 1
fi
unset WAYLAND_DISPLAY
exec xvfb-run -a -s "-screen 0 ${PLIMSEG_SCREEN_SIZE:-1366x768}x24 -nolisten tcp" "$@"
