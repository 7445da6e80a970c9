#!/bin/sh
# Of a member of a group of gateways:
#   group.sh redis CONFIG LIVE ADDRESS PORT SENTINEL...      redis, as a replica of the master that most Sentinels name
#   group.sh synced OPTION...                                until it has that master's data, 30 s at most; options of redis-cli
#   group.sh sentinel CONFIG LIVE QUORUM SENTINEL...         a Sentinel
# A SENTINEL is HOST:PORT. From the environment: SERVER, the program; CLI, redis-cli; TLS, its options for a Sentinel; NAME of the master;
# FIRST, "ADDRESS PORT" of the master of a group that begins; SECRETS, the directory with replica.secret and sentinel.secret.
#
# A master that was away would come up as one, with data of before, until a Sentinel finds it: here it asks first. When no majority
# answers, as when all members boot at once, what it was last counts: Sentinels leave that in LIVE. All else of LIVE is left behind, since
# they also write there, with each decision, every setting of CONFIG as it was then.
set -eu
action=$1
shift

password() { if [ -s "$SECRETS/$1.secret" ]; then cat "$SECRETS/$1.secret"; fi; }

# "ADDRESS PORT" as more than half of them name it, or nothing.
master() {
  needed=$(($# / 2 + 1))
  for sentinel; do
    # shellcheck disable=SC2086 # options are several words
    timeout 2 $CLI $TLS -h "${sentinel%:*}" -p "${sentinel##*:}" sentinel get-master-addr-by-name "$NAME" 2> /dev/null | tr '\n' ' ' || true
    echo
  done | sort | uniq -c | while read -r count host port; do
    if [ "$count" -ge "$needed" ] && [ -n "${port:-}" ]; then echo "$host $port"; fi
  done
}

case $action in
  redis)
    config=$1 live=$2 own="$3 $4"
    shift 4
    found=$(master "$@")
    if [ -z "$found" ]; then
      if [ -e "$live" ]; then found=$(sed -n 's/^replicaof //p' "$live" | tail -n 1); else found=$FIRST; fi
    fi
    umask 077
    {
      echo "include $config"
      if [ -n "$(password replica)" ]; then
        echo "masteruser replica"
        echo "masterauth $(password replica)"
      fi
      if [ -n "$found" ] && [ "$found" != "$own" ]; then echo "replicaof $found"; fi
    } > "$live.new"
    mv "$live.new" "$live"
    exec "$SERVER" "$live"
    ;;
  synced)
    for _ in $(seq 300); do
      found=$(timeout 2 $CLI "$@" info replication 2> /dev/null || true)
      case $found in *role:master* | *master_link_status:up*) exit 0 ;; esac
      sleep 0.1
    done
    ;;
  sentinel)
    config=$1 live=$2 quorum=$3
    shift 3
    umask 077
    {
      cat "$config"
      if [ -e "$live" ]; then
        grep '^sentinel ' "$live"
      else
        found=$(master "$@")
        echo "sentinel monitor $NAME ${found:-$FIRST} $quorum"
        echo "sentinel down-after-milliseconds $NAME 2000"
        echo "sentinel failover-timeout $NAME 10000"
        if [ -n "$(password sentinel)" ]; then
          echo "sentinel auth-user $NAME sentinel"
          echo "sentinel auth-pass $NAME $(password sentinel)"
          echo "sentinel sentinel-user sentinel"
          echo "sentinel sentinel-pass $(password sentinel)"
        fi
      fi
    } > "$live.new"
    mv "$live.new" "$live"
    exec "$SERVER" "$live" --sentinel
    ;;
esac
