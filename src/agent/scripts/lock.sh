# Who is there, and locks that no dead holder keeps.

# Sets ho_me, the lines that tell this process from every other.
ho_me=
ho_know_me() {
  if [ -z "$ho_me" ]; then ho_me=$(ho_myself); fi
}

# ho_judge_text TEXT: sets ho_alive, what is known of the process that lines like those of 'started' name.
ho_judge_text() {
  ho_alive=unknown
  [ -n "$1" ] || return 0
  ho_was_pid=$(printf '%s\n' "$1" | sed -n 's/^pid=//p')
  ho_was_start=$(printf '%s\n' "$1" | sed -n 's/^start=//p')
  if [ "$(printf '%s\n' "$1" | sed -n 's/^machine=//p')" != "$(ho_machine_id)" ]; then
    ho_alive=elsewhere
  elif [ "$(printf '%s\n' "$1" | sed -n 's/^boot=//p')" != "$(ho_boot_identity)" ]; then
    ho_alive=reboot
  elif [ -n "$ho_was_start" ] && [ "$(ho_process_start "$ho_was_pid")" = "$ho_was_start" ]; then
    ho_alive=yes
  elif [ -n "$ho_was_start" ]; then
    ho_alive=no
  fi
}

# ho_judge FILE: the same for a file.
ho_judge() { ho_judge_text "$(cat "$1" 2>/dev/null)"; }

# A symbolic link comes into being whole, and of several who make it one succeeds: it says what a directory could not
# say in its first moment. ho_link NAME TEXT, and ho_link_text NAME.
# In a directory of that name ln would make another one.
ho_link() { ! [ -d "$1" ] && ln -s "$(printf '%s\n' "$2" | tr '\n' '|')" "$1" 2>/dev/null; }
# shellcheck disable=SC2012
ho_link_text() {
  [ -L "$1" ] || return 0
  { readlink "$1" || LC_ALL=C ls -l "$1" | sed 's/^.* -> //'; } 2>/dev/null | tr '|' '\n'
}

# A lock is a row of links, NAME.1, NAME.2 and so on: the last one counts, and names its holder or nobody ('free').
# Whoever finds it free, or its holder gone, makes the next one. The last one always stays, so that nobody who looked a
# long time ago can make one that counts.

# ho_last NAME: sets ho_number, 0 where there is none.
ho_last() {
  ho_number=0
  for ho_each in "$1".[1-9]*; do
    ho_each=${ho_each#"$1".}
    case $ho_each in
      *[!0-9]*) continue ;;
    esac
    if [ "$ho_each" -gt "$ho_number" ]; then ho_number=$ho_each; fi
  done
}

# ho_judge_lock NAME: sets ho_alive for its holder.
ho_judge_lock() {
  ho_last "$1"
  ho_judge_text "$(ho_link_text "$1.$ho_number")"
}

ho_holds() {
  ho_last "$1"
  [ -z "$ho_held" ] || [ "$ho_number" -eq "$ho_held" ]
}

# ho_lock NAME [forced]: takes it, from a living holder only when forced; sets ho_held. Where the file system has no
# links, or no room for one, nothing is locked and nobody is kept out.
ho_lock() {
  ho_last "$1"
  if [ "$ho_number" -gt 0 ] && [ -z "${2:-}" ]; then
    ho_holder=$(ho_link_text "$1.$ho_number")
    if [ "$ho_holder" != free ]; then
      ho_judge_text "$ho_holder"
      case $ho_alive in
        no | reboot) ;;
        *) return 1 ;;
      esac
    fi
  fi
  ho_held=$((ho_number + 1))
  ho_know_me
  if ! ho_link "$1.$ho_held" "$ho_me"; then
    ho_earlier=$ho_held
    ho_held=
    ho_last "$1"
    # Numbers only rise: else somebody has made it.
    [ "$ho_number" -lt "$ho_earlier" ]
    return
  fi
  if ! ho_holds "$1"; then
    rm -f "$1.$ho_held"
    ho_held=
    return 1
  fi
  ho_earlier=$((ho_held - 1))
  while [ -L "$1.$ho_earlier" ]; do
    rm -f "$1.$ho_earlier"
    ho_earlier=$((ho_earlier - 1))
  done
}

ho_unlock() {
  if [ -n "$ho_held" ]; then ho_link "$1.$((ho_held + 1))" free && rm -f "$1.$ho_held"; fi
}

# ho_judge_job DIR: whether the job's runner lives or, where it is gone, whoever sees the job through: its guard, or a
# call that holds the lock of the export.
ho_judge_job() {
  ho_judge "$1/started"
  [ "$ho_alive" = no ] || return 0
  ho_judge "$1/guard"
  [ "$ho_alive" != yes ] || return 0
  ho_judge_lock "$1/export.lock"
  [ "$ho_alive" = yes ] || ho_alive=no
}
