#!/bin/sh
# PID 1 of a lab guest. The root is the host's, read-only; everything below happens in an overlay in the guest's memory,
# so that nothing reaches the host. The kernel command line hands over, as environment variables:
#   LAB_NODE     the node program
#   LAB_AGENT    the compiled agent
#   LAB_CHANNEL  the agent's channel: a /dev/tty*, or the name of a virtio port
#   LAB_HOME     HOME in the guest
#   LAB_HOST     its host name
PATH="${LAB_NODE%/*}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH HOME="$LAB_HOME" LANG=C.UTF-8 TERM=dumb

fail() {
  echo "lab: init: $*" >&2
  # Ending as PID 1 panics the kernel, which ends the machine and shows the line above as its last words.
  exit 1
}

# The overlay's lower layer is the root's own file system without what is mounted on it here: /mnt hides nothing.
mount -t tmpfs -o mode=755,size=75% lab /mnt || fail 'cannot mount a tmpfs on /mnt'
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work lab /mnt/root || fail 'cannot mount the overlay'
cd /mnt/root || fail 'no overlay'

mount -t proc proc proc || fail 'cannot mount /proc'
mount -t sysfs sysfs sys || fail 'cannot mount /sys'
mount -t devtmpfs devtmpfs dev || fail 'cannot mount /dev'
mkdir -p dev/pts dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts dev/pts || fail 'cannot mount /dev/pts'
mount -t tmpfs -o mode=1777 tmpfs dev/shm || fail 'cannot mount /dev/shm'
mount -t tmpfs -o mode=755 tmpfs run || fail 'cannot mount /run'
mount -t configfs configfs sys/kernel/config || fail 'cannot mount configfs'
mount -t debugfs debugfs sys/kernel/debug || fail 'cannot mount debugfs'
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr

echo "$LAB_HOST" >proc/sys/kernel/hostname
# IFF_UP; the kernel adds 127.0.0.1 by itself, so neither ip nor ifconfig has to be installed.
echo 1 >sys/class/net/lo/flags || fail 'cannot bring lo up'

channel=
case "$LAB_CHANNEL" in
  /dev/*) channel=$LAB_CHANNEL ;;
  *)
    for port in sys/class/virtio-ports/*; do
      if [ -e "$port/name" ] && read -r name <"$port/name" && [ "$name" = "$LAB_CHANNEL" ]; then
        channel=/dev/${port##*/}
      fi
    done
    ;;
esac
[ -n "$channel" ] || fail "no virtio port is named $LAB_CHANNEL"
case "$channel" in
  /dev/tty*) stty raw -echo clocal <".$channel" || fail "cannot make $channel raw" ;;
esac

# One thread of the agent is always in a read of the channel, and others may hang in a driver.
UV_THREADPOOL_SIZE=16 chroot . "$LAB_NODE" "$LAB_AGENT" "$channel" </dev/null >/dev/console 2>&1
fail "the agent ended with code $?"
