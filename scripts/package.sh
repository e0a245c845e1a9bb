#!/usr/bin/env bash
# Makes dist/maru_VERSION_ARCH.deb and dist/maru-VERSION-linux-ARCH.tar.gz of the program BINARY (bin/maru),
# which is of the architecture GOARCH. HOST_BINARY is one that runs here, where that does not.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=${GOARCH:-$(go env GOARCH)}
version=${VERSION:?}
version=${version#v}
# A package's version begins with a digit.
case $version in [0-9]*.*) ;; *) version=0.0.0+${version//-/.} ;; esac
binary=${BINARY:-bin/maru}
dist=${DIST:-dist}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$dist"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

tree=$work/deb
DESTDIR=$tree PREFIX=/usr scripts/install.sh install
install -D -m 755 packaging/activate "$tree/usr/lib/maru/activate"
mkdir -p "$tree/usr/share/zsh/vendor-completions"
mv "$tree/usr/share/zsh/site-functions/_maru" "$tree/usr/share/zsh/vendor-completions/"
rmdir "$tree/usr/share/zsh/site-functions"
install -D -m 644 LICENSE "$tree/usr/share/doc/maru/copyright"
install -d "$tree/DEBIAN"
install -m 755 packaging/debian/postinst packaging/debian/prerm packaging/debian/postrm "$tree/DEBIAN/"
install -m 644 packaging/debian/conffiles "$tree/DEBIAN/"
size=$(du -sk --exclude=DEBIAN "$tree" | cut -f1)
sed -e "s|@VERSION@|$version|" -e "s|@ARCH@|$arch|" -e "s|@SIZE@|$size|" packaging/debian/control >"$tree/DEBIAN/control"
deb=$dist/maru_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz -z1 --build "$tree" "$deb" >/dev/null

name=maru-$version-linux-$arch
mkdir -p "$work/$name/bin" "$work/$name/scripts"
cp "$binary" "$work/$name/bin/maru"
cp -R packaging "$work/$name/"
rm -r "$work/$name/packaging/debian"
cp scripts/install.sh "$work/$name/scripts/"
cp LICENSE "$work/$name/"
ln -s scripts/install.sh "$work/$name/install.sh"
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -czf "$dist/$name.tar.gz" "$name"
printf '%s\n' "$deb" "$dist/$name.tar.gz"
