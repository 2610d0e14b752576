# ho_process_start PID: a text that tells this process from a later one with the same number; empty: no such process.
ho_process_start() {
  if [ -r "/proc/$1/stat" ]; then
    # Field 22, counted behind the command's name, which may hold blanks and parentheses. One that has ended and that
    # nobody has waited for (Z: a container without an init collects none) is no process any more.
    ho_stat=$(sed -e 's/^.*) //' "/proc/$1/stat" 2>/dev/null)
    case $ho_stat in
      Z* | X*) ;;
      *) printf '%s\n' "$ho_stat" | cut -d ' ' -f 20 ;;
    esac
  elif ! [ -d /proc/self ]; then
    LC_ALL=C TZ=UTC ps -o lstart= -p "$1" 2>/dev/null | sed -e 's/  */ /g' -e 's/^ //' -e 's/ $//'
  fi
}

# A container that restarts keeps the boot id; the start time of its pid 1 changes.
ho_boot_identity() {
  if [ -r /proc/sys/kernel/random/boot_id ]; then
    printf '%s:%s\n' "$(cat /proc/sys/kernel/random/boot_id)" "$(ho_process_start 1)"
  else
    sysctl -n kern.bootsessionuuid 2>/dev/null ||
      sysctl -n kern.boottime 2>/dev/null | sed -e 's/[^0-9]*\([0-9][0-9]*\).*/\1/'
  fi
}

ho_machine_id() {
  for ho_file in /etc/machine-id /var/lib/dbus/machine-id; do
    if [ -s "$ho_file" ] && [ -r "$ho_file" ]; then
      sed -n '1p' "$ho_file"
      return
    fi
  done
  for ho_name in kern.uuid kern.hostuuid machdep.dmi.system-uuid hw.uuid; do
    ho_value=$(sysctl -n "$ho_name" 2>/dev/null)
    case $ho_value in
      '' | *00000000-0000-0000*) ;;
      *)
        printf '%s\n' "$ho_value"
        return
        ;;
    esac
  done
  printf 'name:%s\n' "$(uname -n)"
}

# Sets ho_now, milliseconds since 1970, and ho_precise: whether the milliseconds are real.
# shellcheck disable=SC2034
ho_clock() {
  ho_now=$(date +%s%N 2>/dev/null)
  case $ho_now in
    '' | *[!0-9]*) ho_now= ;;
  esac
  if [ "${#ho_now}" -eq 19 ]; then
    ho_now=${ho_now%??????}
    ho_precise=yes
  else
    ho_now=$(date +%s)000
    ho_precise=no
  fi
}
