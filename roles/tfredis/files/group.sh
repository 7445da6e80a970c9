#!/bin/sh
# Of a member of a group of gateways:
#   group.sh start CONFIG LIVE ADDRESS PORT SENTINEL...   redis, as a replica of the master that most Sentinels name
#   group.sh wait ADDRESS PORT                            until it has that master's data, 30 s at most
# A Sentinel is HOST:PORT. From the environment: REDIS_SERVER; REDIS_CLI, with its options; SERVICE, the name of the master; FIRST, the
# "ADDRESS PORT" of the master of a group that begins.
#
# A master that was away would come up as one, with data of before, until a Sentinel finds it: here it asks first. When no majority
# answers, as when all members boot at once, what redis was last counts: Sentinels leave that in LIVE. All else of LIVE is left behind, since
# redis also writes there, with each such decision, every setting of CONFIG as it was then.
set -eu
action=$1
shift

ask() { timeout 2 $REDIS_CLI -h "$1" -p "$2" sentinel get-master-addr-by-name "$SERVICE" 2>/dev/null | tr '\n' ' '; }

case $action in
  start)
    config=$1 live=$2 own="$3 $4"
    shift 4
    needed=$(($# / 2 + 1))
    master=$(
      for sentinel; do ask "${sentinel%:*}" "${sentinel##*:}" && echo; done |
        sort | uniq -c | while read -r count host number; do
        if [ "$count" -ge "$needed" ] && [ -n "${number:-}" ]; then echo "$host $number"; fi
      done
    )
    if [ -z "$master" ] && [ -e "$live" ]; then master=$(sed -n 's/^replicaof //p' "$live" | tail -n 1); else : "${master:=$FIRST}"; fi
    {
      echo "include $config"
      if [ -n "$master" ] && [ "$master" != "$own" ]; then echo "replicaof $master"; fi
    } > "$live.new"
    mv "$live.new" "$live"
    exec "$REDIS_SERVER" "$live"
    ;;
  wait)
    for _ in $(seq 300); do
      found=$(timeout 2 $REDIS_CLI -h "$1" -p "$2" info replication 2>/dev/null || true)
      case $found in *role:master* | *master_link_status:up*) exit 0 ;; esac
      sleep 0.1
    done
    ;;
esac
