# The agent's whole family: what carries the launch's mark in its environment, wherever it went (another group, another
# session, another parent), and what is below that, or below the agent, by parent. A process counts by its number and
# its start time together, looked at again before every signal: a stranger who got the number is never meant.

# ho_entry PID: "PID:START" of a process that is there.
ho_entry() {
  ho_found=$(ho_process_start "$1" | tr ' ' '_')
  if [ -n "$ho_found" ]; then printf '%s:%s\n' "$1" "$ho_found"; fi
}

# The numbers of the processes with the mark; nothing where there is no /proc.
ho_marked() {
  [ -r /proc/self/environ ] || return 0
  # Not every grep looks behind a zero byte.
  if printf 'a\0%s\0' "$ho_mark" | grep -q -F -e "$ho_mark" 2>/dev/null; then
    # shellcheck disable=SC2046
    set -- $(grep -s -l -F -e "$ho_mark" /proc/[0-9]*/environ)
  else
    set -- /proc/[0-9]*/environ
  fi
  for ho_file; do
    [ -r "$ho_file" ] || continue
    if { tr '\0' '\n' <"$ho_file" | grep -F -x -e "$ho_mark" >/dev/null; } 2>/dev/null; then
      ho_file=${ho_file#/proc/}
      printf '%s\n' "${ho_file%/environ}"
    fi
  done
}

# Lines "PID PARENT". In status a newline of a process' own making is escaped; in stat it is not.
ho_parents() {
  if [ -r /proc/self/status ]; then
    grep -s '^PPid:' /proc/[0-9]*/status /dev/null |
      sed -n 's/^\/proc\/\([0-9]*\)\/status:PPid:[[:space:]]*\([0-9]*\)$/\1 \2/p'
  else
    ps -A -o pid= -o ppid= 2>/dev/null
  fi
}

# Adds to ho_pids everything that is below one of them.
ho_descend() {
  # shellcheck disable=SC2046
  set -- $(ho_parents)
  ho_table=$*
  ho_grew=yes
  while [ "$ho_grew" = yes ]; do
    ho_grew=no
    # shellcheck disable=SC2086
    set -- $ho_table
    while [ $# -ge 2 ]; do
      case $ho_pids in
        *" $1 "*) ;;
        *" $2 "*)
          ho_pids="$ho_pids$1 "
          ho_grew=yes
          ;;
      esac
      shift 2
    done
  done
}

# Brings ho_family up to date: the entries of everything that lives now.
ho_gather() {
  ho_pids=' '
  ho_judge agent
  if [ "$ho_alive" = yes ]; then ho_pids="$ho_pids$ho_was_pid "; fi
  # What was seen before counts even when its parent is gone and its environment is not to be read.
  for ho_seen in $ho_family; do
    if [ "$(ho_entry "${ho_seen%%:*}")" = "$ho_seen" ]; then ho_pids="$ho_pids${ho_seen%%:*} "; fi
  done
  for ho_seen in $(ho_marked); do
    case $ho_pids in
      *" $ho_seen "*) ;;
      *) ho_pids="$ho_pids$ho_seen " ;;
    esac
  done
  [ "$ho_pids" = ' ' ] || ho_descend
  ho_family=
  for ho_seen in $ho_pids; do
    case $ho_seen in
      0 | 1 | "$$" | "$ho_spared") ;;
      *) ho_family="$ho_family $(ho_entry "$ho_seen")" ;;
    esac
  done
  ho_family=${ho_family# }
}

# ho_signal NAME ENTRY...
ho_signal() {
  ho_signal_name=$1
  shift
  for ho_seen; do
    if [ "$(ho_entry "${ho_seen%%:*}")" = "$ho_seen" ]; then
      kill -s "$ho_signal_name" "${ho_seen%%:*}" 2>/dev/null
    fi
  done
}

ho_trim_family() {
  # shellcheck disable=SC2086
  set -- $ho_family
  ho_family=$*
  ho_left=$#
}

# Whether the runner exports by now: it has seen to the family itself, and its export is not to be ended.
ho_yields=
ho_is_done_here() { [ -n "$ho_yields" ] && [ "$(cat phase 2>/dev/null)" = exporting ]; }

# ho_kill_family [SECONDS]: asks everything to end, makes what is left after the grace period end (that of 'kill', where
# none is named), and looks until nothing is there. Sets ho_left, the number of those that would not go.
ho_spared=
ho_kill_family() {
  ho_mark=HANDOVER_RUN=$(cat claim/nonce)
  ho_family=
  ho_asked=' '
  ho_from=$(date +%s)
  ho_gather
  ho_trim_family
  while [ "$ho_left" -gt 0 ] && ! ho_is_done_here; do
    for ho_member in $ho_family; do
      case $ho_asked in
        *" $ho_member "*) ;;
        *)
          ho_asked="$ho_asked$ho_member "
          ho_signal TERM "$ho_member"
          ;;
      esac
    done
    # Somebody may have shortened it meanwhile.
    ho_seconds=${1:-$(ho_kill_grace)}
    if [ "$(date +%s)" -ge $((ho_from + ho_seconds)) ]; then break; fi
    ho_rest
    ho_gather
    ho_trim_family
  done
  ho_rounds=0
  while [ "$ho_left" -gt 0 ] && [ "$ho_rounds" -lt 60 ] && ! ho_is_done_here; do
    ho_rounds=$((ho_rounds + 1))
    # shellcheck disable=SC2086
    ho_signal KILL $ho_family
    ho_rest
    ho_gather
    ho_trim_family
  done
}
