# usage: secrets.sh DIRECTORY SHARED CHANGE NAME:GROUP:UNIT ...
# Makes DIRECTORY/NAME.secret, which root and GROUP read; with CHANGE 0 it only says what it would do. DERIVE in the environment: a command
# that prints the secret for a purpose, for what several nodes have in common; else it is random, and made once.
# Prints "changed NAME" and "digest NAME SHA256".
set -eu
umask 077
directory=$1 shared=$2 change=$3
shift 3
for one; do
  name=${one%%:*} rest=${one#*:}
  group=${rest%%:*} unit=${rest#*:}
  file=$directory/$name.secret
  # A unit that runs since before it had a group of its own has the one of all, until it is restarted.
  pid=$(systemctl show --property=MainPID --value "${unit:-none}.service" 2> /dev/null) || pid=0
  gid=$(awk '/^Gid:/ {print $3}' "/proc/${pid:-0}/status" 2> /dev/null) || gid=
  if [ -n "$gid" ] && [ "$gid" = "$(getent group "$shared" | cut -d: -f3)" ]; then group=$shared; fi
  mode=640
  if [ "$group" = root ]; then mode=600; fi
  wanted=
  # shellcheck disable=SC2086 # a command with its options
  if [ -n "${DERIVE:-}" ]; then wanted=$($DERIVE "redis password of $name") || [ "$change" = 0 ]; fi
  if [ ! -s "$file" ] || { [ -n "$wanted" ] && [ "$(cat "$file")" != "$wanted" ]; }; then
    echo "changed $name"
    [ "$change" = 1 ] || continue
    if [ -n "$wanted" ]; then printf %s "$wanted"; else od -An -tx1 -N32 /dev/urandom | tr -d ' \n'; fi > "$file.new"
    chown "root:$group" "$file.new"
    chmod "$mode" "$file.new"
    mv "$file.new" "$file"
  elif [ "$(stat -c '%U:%G %a' "$file")" != "root:$group $mode" ]; then
    echo "changed $name"
    if [ "$change" = 1 ]; then
      chown "root:$group" "$file"
      chmod "$mode" "$file"
    fi
  fi
  echo "digest $name $(sha256sum < "$file" | cut -d' ' -f1)"
done
