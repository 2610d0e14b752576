# What is asked of a job from outside, and the entry.
ho_say_file() {
  while IFS= read -r ho_line; do ho_say "$1.${ho_line%%=*}" "${ho_line#*=}"; done <"$2"
}

# ho_judge FILE: sets ho_alive, what is known of the process that a file like 'started' names.
ho_judge() {
  ho_alive=unknown
  [ -f "$1" ] || return 0
  ho_was_pid=$(sed -n 's/^pid=//p' "$1")
  ho_was_start=$(sed -n 's/^start=//p' "$1")
  if [ "$(sed -n 's/^machine=//p' "$1")" != "$(ho_machine_id)" ]; then
    ho_alive=elsewhere
  elif [ "$(sed -n 's/^boot=//p' "$1")" != "$(ho_boot_identity)" ]; then
    ho_alive=reboot
  elif [ -n "$ho_was_start" ] && [ "$(ho_process_start "$ho_was_pid")" = "$ho_was_start" ]; then
    ho_alive=yes
  elif [ -n "$ho_was_start" ]; then
    ho_alive=no
  fi
}

ho_claimed_by() {
  if [ -e claim/tombstone ]; then
    printf 'tombstone\n'
  elif [ -s claim/nonce ]; then
    printf 'nonce:%s\n' "$(cat claim/nonce)"
  elif [ -d claim ]; then
    printf 'empty\n'
  else
    printf 'none\n'
  fi
}

# Waits for 'started', 10 seconds at most where sleep knows fractions.
ho_await_started() {
  ho_tries=0
  until [ -f started ]; do
    ho_tries=$((ho_tries + 1))
    if [ "$ho_tries" -gt 200 ]; then
      ho_say launch unknown
      return
    fi
    ho_rest
  done
  ho_say launch started
  ho_say_file started started
}

ho_main_launch() {
  ho_mine=$1
  if [ -z "$ho_mine" ]; then
    ho_say launch refused
    return
  fi
  if ! [ -e claim ]; then
    ho_needed='prompt.txt params/session params/directory params/opencode params/size params/job'
    ho_kind=$(ho_param kind)
    if [ "$ho_kind" != spawn ]; then ho_needed="$ho_needed session.json"; fi
    for ho_file in $ho_needed; do
      if ! [ -f "$ho_file" ]; then
        ho_say launch incomplete
        ho_say what "$ho_file"
        return
      fi
    done
    if [ "$ho_kind" != spawn ] && [ "$(ho_size session.json)" != "$(ho_param size)" ]; then
      ho_say launch incomplete
      ho_say what session.json
      return
    fi
  fi
  if ho_error=$(mkdir claim 2>&1); then
    if ! ho_put claim/nonce "$ho_mine" 2>/dev/null; then
      rm -f claim/nonce.part
      rmdir claim
      ho_say launch unwritable
      return
    fi
    if command -v setsid >/dev/null 2>&1; then
      setsid sh ./run.sh run </dev/null >>runner.log 2>&1 &
    elif command -v nohup >/dev/null 2>&1; then
      (nohup sh ./run.sh run </dev/null >>runner.log 2>&1 &)
    else
      (
        trap '' HUP
        sh ./run.sh run </dev/null >>runner.log 2>&1 &
      )
    fi
    ho_await_started
    return
  fi
  if ! [ -d claim ]; then
    ho_say launch unwritable
    ho_say what "$(ho_first_line "$ho_error")"
    return
  fi
  # Another launch may be between its mkdir and its nonce.
  ho_tries=0
  while [ "$(ho_claimed_by)" = empty ] && [ "$ho_tries" -lt 40 ]; do
    ho_tries=$((ho_tries + 1))
    ho_rest
  done
  case $(ho_claimed_by) in
    tombstone) ho_say launch tombstone ;;
    "nonce:$ho_mine") ho_await_started ;;
    empty) ho_say launch unknown ;;
    *) ho_say launch taken ;;
  esac
}

# A job that nobody launched is settled: whoever holds the claim holds it for ever.
ho_main_settle() {
  if mkdir claim 2>/dev/null; then
    ho_put claim/tombstone settled
  fi
  ho_say claim "$(ho_claimed_by)"
}

ho_main_status() {
  # Judged before 'exit' is read: a runner that ends in between is then seen as ended, not as died.
  ho_judge started
  ho_say alive "$ho_alive"
  ho_clock
  ho_say clock_ms "$ho_now"
  ho_say claim "$(ho_claimed_by)"
  if [ -f phase ]; then ho_say phase "$(cat phase)"; fi
  for ho_file in events.ndjson stderr.log back.json; do
    if [ -f "$ho_file" ]; then ho_say "size.$ho_file" "$(ho_size "$ho_file")"; fi
  done
  if [ -f started ]; then ho_say_file started started; fi
  if [ -f exit ]; then ho_say_file exit exit; fi
}

# Takes the lock of the second export. One that a dead process left is broken, and so is one that has had no holder
# for ten looks: whoever makes it names itself at once.
ho_lock_export() {
  if mkdir export.lock 2>/dev/null; then
    ho_put export.lock/holder "$(ho_myself)"
    return
  fi
  ho_judge export.lock/holder
  case $ho_alive in
    no | reboot) ;;
    unknown)
      if [ -f export.lock/holder ] || [ "$1" -lt 10 ]; then return 1; fi
      ;;
    *) return 1 ;;
  esac
  # By rename: of several who find it dead, one breaks it.
  mv export.lock "export.dead.$$" 2>/dev/null && rm -rf "export.dead.$$"
  return 1
}

ho_say_export() {
  ho_say export 'done'
  ho_say_file exit exit
}

# In the order in which a message moves, so that none slips past the looking.
ho_is_delivered() {
  for ho_place in "inbox/$1.txt" inbox.*/"$1.txt"; do
    if [ -f "$ho_place" ]; then return 0; fi
  done
  for ho_place in inbox.*/"$1.txt.done" "delivered/$1.txt.done"; do
    if [ -f "$ho_place" ]; then return 0; fi
  done
  [ -f "delivered/$1.txt.done" ]
}

# Moves the message say-NAME.txt into the inbox, once, whoever asks how often. Nobody makes the inbox again after the
# agent's last turn: between two turns it is missing for a moment.
ho_main_say() {
  case $1 in
    '' | *[!0-9a-z-]*)
      ho_say say refused
      return
      ;;
  esac
  ho_tries=0
  while :; do
    if ho_is_delivered "$1"; then
      ho_say say taken
      return
    fi
    if ! [ -f "say-$1.txt" ]; then
      if ho_is_delivered "$1"; then ho_say say taken; else ho_say say missing; fi
      return
    fi
    if mv -f "say-$1.txt" "inbox/$1.txt" 2>/dev/null; then
      ho_say say taken
      return
    fi
    ho_tries=$((ho_tries + 1))
    if [ -f exit ] || [ "$(cat phase 2>/dev/null)" = exporting ] || [ "$ho_tries" -gt 200 ]; then break; fi
    if [ $((ho_tries % 20)) -eq 0 ]; then
      ho_judge started
      case $ho_alive in
        no | reboot) break ;;
      esac
    fi
    ho_rest
  done
  # Another asker may have been faster; without the file none is from here on.
  rm -f "say-$1.txt"
  if ho_is_delivered "$1"; then ho_say say taken; else ho_say say closed; fi
}

# Waits a minute for the lock, and gives it back at the end.
ho_take_export() {
  ho_tries=0
  until ho_lock_export "$ho_tries"; do
    ho_tries=$((ho_tries + 1))
    if [ "$ho_tries" -gt 60 ]; then return 1; fi
    sleep 1
  done
  trap 'rm -rf export.lock' EXIT
}

# A result that could not be written is asked for again, when there is room. Whoever asked may be gone before it is
# there: it is made all the same, and the next one who asks waits for it.
ho_main_export() {
  if ! [ -f exit ]; then
    ho_say export refused
    return
  fi
  if ! ho_take_export; then
    ho_say export busy
    return
  fi
  # The one before us may have brought it.
  if [ -f back.json ] && [ -n "$(sed -n 's/^sha256=//p' exit)" ]; then
    ho_say_export
    return
  fi
  ho_pid=
  ho_stopped=
  trap 'ho_interrupted=yes' HUP PIPE
  trap ho_stop TERM INT
  ho_code=$(sed -n 's/^code=//p' exit)
  ho_undelivered=$(sed -n 's/^undelivered=//p' exit)
  ho_at=$(sed -n 's/^phase=//p' exit)
  ho_left=$(sed -n 's/^left=//p' exit)
  ho_prepare
  if [ -z "$ho_stopped" ] && ho_export; then
    ho_clock
    ho_reason=completed
    if [ "${ho_code:-0}" -gt 128 ]; then
      ho_reason=agent-signalled
    elif [ "${ho_code:-0}" -ne 0 ]; then
      ho_reason=agent-failed
    fi
    # A job that was ended stays one that was ended.
    case $(sed -n 's/^reason=//p' exit) in
      killed | max-time | stalled | looping) ho_reason=$(ho_kill_reason) ;;
    esac
    if ho_write_exit "$ho_reason"; then
      ho_say_export
      return
    fi
  fi
  ho_say export failed
}

# Takes the session out of this host's agent. Done once is done, for whoever asks again: the agent would answer that
# there is no such session.
ho_main_forget() {
  if [ -f forgotten ]; then
    ho_say forget 'done'
    return
  fi
  ho_prepare
  (ho_agent session delete "$ho_session") </dev/null >forget.log 2>&1
  ho_said=$?
  if [ "$ho_said" -eq 0 ]; then
    ho_put forgotten yes 2>/dev/null
    ho_say forget 'done'
  else
    ho_say forget failed
    ho_say what "$(ho_first_line "$(tail -n 1 forget.log)")"
  fi
}

ho_main_remove() {
  ho_judge started
  case $ho_dir in
    /*/handover/jobs/?*) ;;
    *) ho_alive=foreign ;;
  esac
  case $ho_alive in
    foreign) ho_say remove refused ;;
    yes | elsewhere)
      if [ -f exit ]; then ho_remove; else ho_say remove alive; fi
      ;;
    *) ho_remove ;;
  esac
}
ho_remove() {
  # What was never launched is not launched any more.
  if mkdir claim 2>/dev/null; then ho_put claim/tombstone settled; fi
  cd / || return
  if ho_error=$(ho_remove_job "$ho_dir" 2>&1); then
    ho_say remove 'done'
  else
    ho_say remove failed
    ho_say what "$(ho_first_line "$ho_error")"
  fi
}

# One function, read whole before it starts: 'remove' deletes the file that it is read from.
ho_main() {
  case $0 in
    */*) cd -- "${0%/*}" || exit 1 ;;
  esac
  ho_dir=$(pwd -P)
  case ${1:-} in
    run) ho_main_run ;;
    guard) ho_main_guard ;;
  esac
  ho_begin
  case ${1:-} in
    launch) ho_main_launch "${2:-}" ;;
    status) ho_main_status ;;
    settle) ho_main_settle ;;
    kill) ho_main_kill "${2%% *}" "${2##* }" ;;
    export) ho_main_export ;;
    forget) ho_main_forget ;;
    say) ho_main_say "${2:-}" ;;
    remove) ho_main_remove ;;
    *) ho_say refused "${1:-}" ;;
  esac
  ho_end
  exit 0
}
ho_main "$@"
