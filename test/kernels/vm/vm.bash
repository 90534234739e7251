# Functions that boot Debian in QEMU, without acceleration. Sourced, in the source tree, by what tests in virtual machines.
# shellcheck shell=bash disable=SC2154,SC2034 # variables are those of the files that source it

# need PROGRAM:PACKAGE... installs what is missing of what these functions and the caller run.
need() {
  local pair missing=()
  ((EUID == 0)) || { echo "${0##*/}: needs root" >&2; return 1; }
  for pair in qemu-system-x86_64:qemu-system-x86 mkfs.ext4:e2fsprogs cpio:cpio depmod:kmod mmdebstrap:mmdebstrap "$@"; do
    command -v "${pair%%:*}" >/dev/null || [[ -e /usr/include/${pair%%:*} ]] || missing+=("${pair##*:}")
  done
  ((${#missing[@]})) || return 0
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# debian_kernel SUITE unpacks the suite's kernel for virtual machines, and a static busybox. Sets kernel, their folder, and release.
debian_kernel() {
  kernel=.cache/vm/$1
  # Of the main archive alone: that for security drops packages within weeks. The shell of mmdebstrap expands $1.
  # shellcheck disable=SC2016
  ./test/kernels/vm/debian "$kernel" "$1" extract linux-image-cloud-amd64,busybox-static --setup-hook='sed -i /security/d "$1/etc/apt/sources.list"'
  # modprobe looks below /lib, which packages since trixie leave to base-files.
  [[ -e $kernel/lib ]] || ln -s usr/lib "$kernel/lib"
  [[ -e $kernel/lib/modules ]] || ln -sfn ../usr/lib/modules "$kernel/lib/modules"
  release=$(ls "$kernel/lib/modules")
  [[ -e $kernel/lib/modules/$release/modules.dep ]] || depmod -b "$kernel" "$release"
}

# initrd FILE INIT makes an initial RAM disk that finds the disk and runs INIT from it, of the kernel that debian_kernel has set.
initrd() {
  local folder busybox module what file
  folder=$(mktemp -d -p "$work")
  mkdir -p "$folder"/{bin,proc,sys,dev,root,modules}
  busybox=$kernel/bin/busybox
  [[ -e $busybox ]] || busybox=$kernel/usr/bin/busybox
  cp "$busybox" "$folder/bin/busybox"
  {
    echo '#!/bin/busybox sh'
    echo 'busybox mount -t devtmpfs dev /dev'
    for module in virtio_pci virtio_blk ext4; do
      modprobe --dirname="$kernel" --set-version="$release" --show-depends $module | while read -r what file _; do
        [[ $what == insmod ]] || continue
        cp "$file" "$folder/modules"
        echo "busybox insmod /modules/$(basename "$file") 2>/dev/null"
      done
    done
    echo 'until busybox mount -t ext4 /dev/vda /root; do busybox sleep 1; done'
    echo "exec busybox switch_root /root $2"
  } >"$folder/init"
  chmod +x "$folder/init"
  (cd "$folder" && find . | cpio --quiet -o -H newc | gzip -1) >"$1"
  rm -rf "$folder"
}

# boot SECONDS KERNEL DISK OPTION... boots until the guest says "VM end" on its console and ends. Leaves what the console showed in
# $work/lines. Some boots hang: one retry. What the guest writes to DISK is thrown away.
boot() {
  local seconds=$1 image=$2 disk=$3 try
  shift 3
  for try in 1 2; do
    timeout "$seconds" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nic none -no-reboot -display none -serial stdio -monitor none \
      -drive "file=$disk,if=virtio,format=raw,snapshot=on" -kernel "$image" "$@" </dev/null >"$work/console" 2>&1 || true
    tr -d '\r' <"$work/console" >"$work/lines"
    ! grep -q '^VM end' "$work/lines" || return 0
    echo "${0##*/}: try $try did not come to its end" >&2
  done
}

# verdict prints what the guest's checks said, and counts them in passed and failed. A guest that did not come to its end has failed.
verdict() {
  sed -n '/^VM /,$p' "$work/lines" | grep -E '^VM |^    '
  passed=$(grep -c '^VM ok' "$work/lines" || true)
  failed=$(grep -c '^VM FAILED' "$work/lines" || true)
  grep -q '^VM end' "$work/lines" || { tail -n 30 "$work/lines" >&2; failed=$((failed + 1)); }
}
