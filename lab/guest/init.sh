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

# The kernel log, unlike the console's tty, is on the host before the kernel does anything else.
say() {
  echo "lab: $*" >/dev/kmsg
}

fail() {
  say "init: $*"
  # Ending as PID 1 panics the kernel, which ends the machine.
  exit 1
}

# The overlay's lower layer is the root's own file system without what is mounted on it here: /mnt hides nothing.
mount -t tmpfs -o mode=755,size=75% lab /mnt || fail 'cannot mount a tmpfs on /mnt'
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work lab /mnt/root || fail 'cannot mount the overlay'
cd /mnt/root || fail 'no overlay'

mount -a -T "${0%/*}/fstab" 2>/mnt/mount.log || fail "$(cat /mnt/mount.log)"

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
export UV_THREADPOOL_SIZE=16
{
  chroot . "$LAB_NODE" "$LAB_AGENT" "$channel" </dev/null
  echo "ended with code $?"
} 2>&1 | while IFS= read -r line; do
  say "agent: $line"
done
fail 'no agent'
