#!/bin/sh
# The command in the image, by the name that this file is called by. As the first process of a container it gets an init
# that takes care of what scripts leave behind: else each orphan would stay as a zombie.
command="/opt/tercel/bin/${0##*/}"
[ $$ -eq 1 ] && exec tini -- "$command" "$@"
exec "$command" "$@"
