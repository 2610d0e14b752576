# The runner of one job: it lives in the job's directory and touches nothing outside but the work directory.
# Verbs: launch NONCE, run (the detached runner itself), guard (beside it), status, settle, bury, kill REASON GRACE,
# export SECONDS (again), say NAME, forget, remove.
# Every file that others look for appears whole, by rename; 'exit' is the last.
ho_nonce=${HANDOVER_FRAME:-}
unset HANDOVER_FRAME
# The user's own, for the login shell and the agent; what is ours is private.
ho_umask=${HANDOVER_UMASK:-$(umask)}
umask 077

ho_param() { cat "params/$1" 2>/dev/null; }
ho_size() { wc -c <"$1" 2>/dev/null | tr -d ' '; }
ho_put() { printf '%s\n' "$2" >"$1.part" && mv -f "$1.part" "$1"; }
# A short rest where sleep knows fractions.
ho_rest() { sleep 0.05 2>/dev/null || sleep 1; }
ho_log() { printf 'handover: %s\n' "$1" >>stderr.log; }

# What tells this process from every other, on any machine and in any boot of it.
ho_myself() {
  printf 'pid=%s\nstart=%s\nboot=%s\nmachine=%s\nend=1\n' \
    $$ "$(ho_process_start $$)" "$(ho_boot_identity)" "$(ho_machine_id)"
}

ho_sha256() {
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum <"$1"
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 <"$1"
  elif command -v sha256 >/dev/null 2>&1; then
    sha256 -q <"$1"
  else
    openssl dgst -sha256 -r <"$1"
  fi | sed -e 's/[^0-9a-f].*//'
}

# Loads the login environment and what every command of the agent needs.
ho_prepare() {
  ho_session=$(ho_param session)
  if [ -z "$ho_session" ]; then ho_session=$(cat session 2>/dev/null); fi
  ho_work=$(ho_param directory)
  ho_opencode=$(ho_param opencode)
  umask "$ho_umask"
  if ho_capture_login_env "$(ho_param job)-env"; then
    eval "$ho_login_env"
    ho_login_env=
    unset HANDOVER_MARK
    umask 077
  else
    umask 077
    ho_log "login environment: $ho_login_why"
  fi
  unset HANDOVER_UMASK
  HANDOVER_JOB_ID=$(ho_param job)
  # An installation by npm finds its node beside itself.
  PATH=$PATH:${ho_opencode%/*}
  export HANDOVER_JOB_ID PATH
}

# The agent in the work directory, under the user's own umask. Always in a subshell: the caller's redirections are
# opened before, in the job's directory.
ho_agent() {
  # As of a program that cannot be run.
  cd -- "$ho_work" || exit 126
  umask "$ho_login_umask" && exec "$ho_opencode" "$@"
}

# Waits for the child ho_pid through signals; sets ho_code.
ho_wait() {
  ho_interrupted=
  wait "$ho_pid"
  ho_code=$?
  while [ -n "$ho_interrupted" ]; do
    ho_interrupted=
    wait "$ho_pid"
    ho_again=$?
    # 127: it had been waited for before the signal came.
    [ "$ho_again" -eq 127 ] || ho_code=$ho_again
  done
  ho_pid=
}

# shellcheck disable=SC2317
ho_stop() {
  ho_stopped=${ho_stopped:-stopped}
  ho_interrupted=yes
  ho_end_child
}

# Asks the child to end, and makes it end 10 seconds later; a stranger who got its number by then is left alone.
ho_end_child() {
  [ -n "$ho_pid" ] || return 0
  kill -TERM "$ho_pid" 2>/dev/null
  ho_child_start=$(ho_process_start "$ho_pid")
  (
    sleep 10
    [ "$(ho_process_start "$ho_pid")" = "$ho_child_start" ] && kill -KILL "$ho_pid"
  ) </dev/null >/dev/null 2>&1 &
}

# ho_bound_child SECONDS FILE: ends the child where nothing has come into the file for so long.
ho_bound_child() {
  ho_child_start=$(ho_process_start "$ho_pid")
  (
    trap '' HUP PIPE
    ho_quiet=0
    ho_came=
    while ho_guarded_lives "$ho_pid" "$ho_child_start"; do
      ho_grown=$(ho_size "$2")
      if [ "$ho_grown" != "$ho_came" ]; then
        ho_came=$ho_grown
        ho_quiet=0
      fi
      if [ "$ho_quiet" -eq "$1" ]; then kill -TERM "$ho_pid"; fi
      if [ "$ho_quiet" -eq "$(($1 + 10))" ]; then kill -KILL "$ho_pid"; fi
      sleep 1
      ho_quiet=$((ho_quiet + 1))
    done
  ) </dev/null >/dev/null 2>&1 &
}

ho_phase() {
  ho_at=$1
  ho_put phase "$1" 2>/dev/null
}

# Sets ho_message to the oldest follow-up message in a directory; fails when there is none.
ho_next_message() {
  for ho_message in "$1"/*.txt; do
    [ -f "$ho_message" ] && return 0
  done
  return 1
}

# Notes which process the agent is: whoever ends the job in the runner's place begins there.
ho_note_agent() {
  ho_put agent "$(printf 'pid=%s\nstart=%s\n' "$ho_pid" "$(ho_process_start "$ho_pid")")
$ho_here" 2>/dev/null
}

# The session that the first run of a spawned job has made: its events name it outside of everything that the agent or
# its tools wrote.
ho_find_session() {
  ho_session=$(LC_ALL=C sed -n -e '/^{[^{}]*"sessionID":"ses_/{' \
    -e 's/^{[^{}]*"sessionID":"\(ses_[0-9A-Za-z]*\)".*/\1/p' -e q -e '}' events.ndjson 2>/dev/null)
  if [ -n "$ho_session" ]; then ho_put session "$ho_session" 2>/dev/null; fi
}

ho_run_agent() {
  set -- run
  if [ -n "$ho_session" ]; then
    set -- "$@" --session="$ho_session"
  elif [ -n "$ho_title" ]; then
    set -- "$@" --title="$ho_title"
  fi
  set -- "$@" --format json
  if [ -n "$ho_name" ]; then set -- "$@" --agent="$ho_name"; fi
  if [ -n "$ho_model" ]; then set -- "$@" --model="$ho_model"; fi
  if [ "$ho_auto" = 1 ]; then set -- "$@" --auto; fi
  (HANDOVER_RUN=$ho_nonce && export HANDOVER_RUN && ho_agent "$@") \
    <"$ho_prompt" >>events.ndjson 2>>stderr.log &
  ho_pid=$!
  ho_note_agent
  # A signal that came before the child had a number.
  if [ -n "$ho_stopped" ]; then ho_end_child; fi
  ho_wait
  if [ -z "$ho_session" ]; then ho_find_session; fi
}

# Takes the inbox by renaming it, until it is found empty. rmdir is what closes it: it fails when a delivery came
# in between, and after it a delivery in flight fails, so no message is accepted and lost.
ho_serve_inbox() {
  ho_turn=0
  while mv inbox "inbox.$ho_turn" 2>/dev/null; do
    ho_taken=inbox.$ho_turn
    ho_turn=$((ho_turn + 1))
    if ho_next_message "$ho_taken"; then mkdir inbox; fi
    while :; do
      while ho_next_message "$ho_taken"; do
        if ho_is_stopped; then return; fi
        ho_prompt=$ho_message
        ho_run_agent
        # What no agent has read stays, and counts as undelivered.
        case $ho_code in
          126 | 127) return ;;
        esac
        # Read is read: it must not be run again, nor given again by who asks whether it was.
        mv -f "$ho_message" "$ho_message.done" || {
          mkdir -p delivered && : >"delivered/${ho_message##*/}.done"
          rm -f "$ho_message" || return
        }
      done
      mkdir -p delivered
      for ho_file in "$ho_taken"/*.done; do
        if [ -f "$ho_file" ]; then mv -f "$ho_file" delivered/; fi
      done
      for ho_file in "$ho_taken"/*; do
        case $ho_file in
          *.txt) ;;
          *) rm -f -- "$ho_file" ;;
        esac
      done
      if rmdir "$ho_taken" 2>/dev/null; then break; fi
      # What is left and is no message would keep us here for ever.
      ho_next_message "$ho_taken" || {
        rm -rf -- "$ho_taken"
        break
      }
    done
  done
}

# Shuts the inbox without running anything and counts what nobody will read.
ho_close_inbox() {
  mv inbox inbox.closed 2>/dev/null
  ho_undelivered=0
  for ho_file in inbox.*/*.txt; do
    if [ -f "$ho_file" ]; then ho_undelivered=$((ho_undelivered + 1)); fi
  done
}

# Exports the session; the result counts only when it is whole. Fails with nothing left behind.
ho_export() {
  [ -n "$ho_session" ] || return 1
  rm -f back.json.part
  (HANDOVER_RUN=$(cat claim/nonce) && export HANDOVER_RUN && ho_agent export "$ho_session") \
    </dev/null >back.json.part 2>>stderr.log &
  ho_pid=$!
  if [ -n "${ho_here:-}" ]; then ho_note_agent; fi
  if [ -n "${ho_bound:-}" ]; then ho_bound_child "$ho_bound" back.json.part; fi
  ho_kept=$ho_code
  ho_wait
  ho_export_code=$ho_code
  ho_code=$ho_kept
  if [ "$ho_export_code" -eq 0 ]; then
    case $(tail -c 16 back.json.part 2>/dev/null) in
      *'}')
        ho_bytes=$(ho_size back.json.part)
        ho_sum=$(ho_sha256 back.json.part)
        if [ "${#ho_sum}" -eq 64 ] && mv -f back.json.part back.json; then return 0; fi
        ;;
    esac
  fi
  ho_bytes=
  ho_sum=
  rm -f back.json.part
  return 1
}

# One write, read back before it counts: a full disk must not leave an 'exit' that claims something.
ho_write_exit() {
  printf 'protocol=1\nphase=%s\nreason=%s\ncode=%s\nsize=%s\nsha256=%s\nundelivered=%s\nleft=%s\nended_ms=%s\nend=1\n' \
    "$ho_at" "$1" "$ho_code" "$ho_bytes" "$ho_sum" "$ho_undelivered" "${ho_left:-0}" "$ho_now" >exit.part 2>/dev/null &&
    [ "$(tail -n 1 exit.part)" = 'end=1' ] && mv -f exit.part exit
}

# The same for ten minutes: a full disk may get room again.
ho_leave_exit() {
  ho_tries=0
  until ho_write_exit "$1"; do
    rm -f exit.part
    ho_tries=$((ho_tries + 1))
    if [ "$ho_tries" -ge 120 ]; then return 1; fi
    sleep 5
  done
}

ho_finish() {
  trap '' TERM HUP INT
  trap - EXIT
  # The guard may be in its grace period; what it was about to end is ended here.
  if ho_is_stopped && [ -e kill ]; then
    ho_spared=$ho_guard
    ho_kill_family
  fi
  ho_close_inbox
  ho_clock
  rm -f reserve
  ho_leave_exit "$1"
  ho_dismiss_guard
  exit 0
}

# Brings the session in; ends the job when that fails.
ho_import() {
  (HANDOVER_RUN=$ho_nonce && export HANDOVER_RUN && ho_agent import "$ho_dir/session.json") \
    </dev/null >import.log 2>>stderr.log &
  ho_pid=$!
  ho_note_agent
  ho_wait
  ho_import_code=$ho_code
  ho_code=
  # The line is the only sign: some versions exit with 0 after a failure.
  if ! grep -F -x -- "Imported session: $ho_session" import.log >/dev/null 2>&1; then
    ho_log "the import ended with $ho_import_code"
    tail -n 20 import.log >>stderr.log 2>/dev/null
    if ho_is_stopped; then ho_finish "$ho_stopped"; fi
    ho_finish import-failed
  fi
  rm -f session.json
}

ho_main_run() {
  # Only the process that launch detached may run, and only once.
  ho_know_me
  [ -d claim ] && ho_take_runner "$ho_me" && [ ! -e claim/tombstone ] || exit 1
  ho_pid=
  ho_guard=
  ho_code=
  ho_bytes=
  ho_sum=
  ho_stopped=
  ho_undelivered=0
  ho_at=importing
  ho_login_umask=022
  trap ho_stop TERM HUP INT
  trap 'ho_finish internal' EXIT
  # Room for 'exit' on a disk that fills up.
  dd if=/dev/zero of=reserve bs=8192 count=1 >/dev/null 2>&1
  mkdir inbox
  ho_phase importing
  ho_put began "$(date +%s)" 2>/dev/null
  ho_put started "$ho_me" || ho_finish started-failed
  ho_here=$(sed -n '/^boot=/,$p' started)
  # Before the agent's environment is there: what runs beside us is none of its family.
  ho_nonce=$(cat claim/nonce)
  ho_guard_me 0 ''

  ho_prepare
  if ! { [ -f "$ho_opencode" ] && [ -x "$ho_opencode" ]; }; then
    ho_log "no agent at $ho_opencode"
    ho_finish agent-missing
  fi
  if ! (umask "$ho_login_umask" && mkdir -p -- "$ho_work" && cd -- "$ho_work") 2>>stderr.log; then
    ho_finish workdir-failed
  fi

  # Ids sort by time: a prompt older than the history would never be answered.
  ho_newest=$(ho_param newest_ms)
  ho_waited=0
  ho_clock
  while [ "$ho_now" -le "${ho_newest:-0}" ]; do
    if [ "$ho_waited" -ge 60 ]; then ho_finish clock; fi
    if ho_is_stopped; then ho_finish "$ho_stopped"; fi
    sleep 1
    ho_waited=$((ho_waited + 1))
    ho_clock
  done

  if ho_is_stopped; then ho_finish "$ho_stopped"; fi
  # A spawned job has nothing to bring in: its first run makes the session.
  if [ "$(ho_param kind)" != spawn ]; then ho_import; fi
  if ho_is_stopped; then ho_finish "$ho_stopped"; fi

  ho_phase running
  ho_name=$(ho_param agent)
  ho_model=$(ho_param model)
  ho_auto=$(ho_param auto)
  ho_title=$(ho_param title)
  ho_prompt=prompt.txt
  ho_run_agent
  # Without a session there is nothing to go on with.
  if [ -n "$ho_session" ]; then ho_serve_inbox; fi
  ho_close_inbox
  # The agent is gone; what it left behind goes before anything is exported.
  if ho_is_stopped && [ -e kill ]; then ho_kill_family; fi

  ho_phase exporting
  if ! ho_export && ! ho_is_stopped && { [ -n "$ho_session" ] || [ "$ho_code" -eq 0 ]; }; then
    ho_finish export-failed
  fi
  if [ -n "$ho_stopped" ]; then ho_finish "$ho_stopped"; fi
  if [ "$ho_code" -gt 128 ]; then ho_finish agent-signalled; fi
  if [ "$ho_code" -ne 0 ]; then ho_finish agent-failed; fi
  ho_finish completed
}
