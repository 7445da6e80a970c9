#!/bin/bash
# Sets a host up as its arguments say: prepare.sh german noexec ...
set -eu
export DEBIAN_FRONTEND=noninteractive

locale() { # NAME: of every login and every program
  apt-get update -q
  apt-get install -q --yes --no-install-recommends locales
  localedef -i "$1" -f UTF-8 "$1.UTF-8"
  printf 'LANG=%s\nLC_ALL=%s\n' "$1.UTF-8" "$1.UTF-8" | tee /etc/default/locale >> /etc/environment
}

for one; do
  case $one in
    german) locale de_DE ;; # apt says "Sperre konnte nicht gesetzt werden"
    turkish) locale tr_TR ;; # its upper case of i is not I
    legacy-iptables)
      update-alternatives --set iptables /usr/sbin/iptables-legacy
      update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy
      ;;
    busy-apt) # from now on, until somebody else has wanted it
      cat > /usr/local/sbin/busy-apt << 'PYTHON'
import fcntl, pathlib, time
names = ["/var/lib/apt/lists/lock", "/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock"]
held = [open(name, "w") for name in names]
for one in held:
    fcntl.lockf(one, fcntl.LOCK_EX)
while True:
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"/usr/bin/apt-get\0"):
                time.sleep(5)
                print("somebody waited")
                raise SystemExit
        except OSError:  # it has ended
            pass
    time.sleep(0.1)
PYTHON
      systemd-run --unit=busy-apt python3 -u /usr/local/sbin/busy-apt
      ;;
    unattended-upgrades) # one run after the other, until there is a redis
      apt-get update -q
      apt-get install -q --yes --no-install-recommends unattended-upgrades
      systemd-run --unit=upgrades sh -c \
        'until systemctl is-active --quiet tfredis; do unattended-upgrade && echo "looked for upgrades"; sleep 0.5; done'
      ;;
    ssh-socket)
      systemctl disable --now ssh.service
      systemctl enable --now ssh.socket
      ;;
    noexec)
      mount -o remount,noexec,nosuid,nodev /tmp
      mount -t tmpfs -o noexec,nosuid,nodev tmpfs /var/tmp
      ;;
    valkey)
      apt-get update -q
      apt-get install -q --yes --no-install-recommends valkey-server
      ;;
    sudo-with-password) # and root may not log in at all
      useradd --create-home --shell /bin/bash gina
      echo "gina:$PASSWORD" | chpasswd
      echo 'gina ALL=(ALL:ALL) ALL' > /etc/sudoers.d/gina
      cp -r /root/.ssh /home/gina/
      chown -R gina: /home/gina/.ssh
      echo 'PermitRootLogin no' > /etc/ssh/sshd_config.d/root.conf
      systemctl reload ssh.service
      ;;
    no-ipv6)
      printf 'net.ipv6.conf.%s.disable_ipv6 = 1\n' all default > /etc/sysctl.d/90-no-ipv6.conf
      sysctl -p /etc/sysctl.d/90-no-ipv6.conf
      ;;
    *)
      echo "no set-up $one" >&2
      exit 2
      ;;
  esac
done
