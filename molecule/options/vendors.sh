#!/bin/sh
# Makes /srv/vendors: key.asc, key.sha256, and the flat repositories docker/ and 8.0/.
set -eu
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -q --yes --no-install-recommends gnupg
export GNUPGHOME=/root/vendors-gnupg
mkdir -m 0700 -p "$GNUPGHOME"
gpg --batch --quiet --passphrase '' --quick-generate-key vendor@vendors.example default default never

package() { # REPOSITORY NAME UNIT
  tree=$(mktemp -d)
  mkdir -p "$tree/DEBIAN" "$tree/lib/systemd/system"
  printf 'Package: %s\nVersion: 1.0\nArchitecture: all\nMaintainer: vendor <vendor@vendors.example>\nDescription: stand-in\n' "$2" > "$tree/DEBIAN/control"
  # A file of its own: dpkg takes a package without one for replaced by the next.
  mkdir -p "$tree/usr/share/doc/$2" && echo stand-in > "$tree/usr/share/doc/$2/README"
  if [ -n "$3" ]; then printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' > "$tree/lib/systemd/system/$3"; fi
  dpkg-deb --build "$tree" "/srv/vendors/$1/$2.deb"
  file="/srv/vendors/$1/$2.deb"
  {
    cat "$tree/DEBIAN/control"
    printf 'Filename: ./%s.deb\nSize: %s\nSHA256: %s\n\n' "$2" "$(stat -c %s "$file")" "$(sha256sum "$file" | cut -d' ' -f1)"
  } >> "/srv/vendors/$1/Packages"
}

mkdir -p /srv/vendors/docker /srv/vendors/8.0
package docker docker-ce docker.service
package docker docker-ce-cli ''
package docker containerd.io ''
package 8.0 mongodb-org mongod.service
for repository in docker 8.0; do
  cd "/srv/vendors/$repository"
  {
    printf 'Origin: vendor\nSuite: stable\nDate: %s\nSHA256:\n' "$(date -Ru)"
    printf ' %s %s Packages\n' "$(sha256sum Packages | cut -d' ' -f1)" "$(stat -c %s Packages)"
  } > Release
  gpg --batch --quiet --clearsign --output InRelease Release
done
gpg --batch --quiet --armor --export vendor@vendors.example > /srv/vendors/key.asc
chmod -R a+rX /srv/vendors
sha256sum /srv/vendors/key.asc | cut -d' ' -f1 > /srv/vendors/key.sha256
