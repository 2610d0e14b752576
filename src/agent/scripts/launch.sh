# The launch of a job, and its opposite: one that is never launched.

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

# ho_take_runner TEXT: claim/runner is made once, by the runner or by whoever buries the job. Where there are no links
# a directory does, which says nothing of who made it.
ho_take_runner() { ho_link claim/runner "$1" || mkdir claim/runner 2>/dev/null; }

# ho_detach VERB ARGUMENT...: runs this script in a session of its own.
ho_detach() {
  if command -v setsid >/dev/null 2>&1; then
    setsid sh ./run.sh "$@" </dev/null >>runner.log 2>&1 &
  elif command -v nohup >/dev/null 2>&1; then
    (nohup sh ./run.sh "$@" </dev/null >>runner.log 2>&1 &)
  else
    (
      trap '' HUP
      sh ./run.sh "$@" </dev/null >>runner.log 2>&1 &
    )
  fi
}

# Waits for 'started', 10 seconds at most where sleep knows fractions.
ho_await_started() {
  ho_tries=0
  until [ -f started ]; do
    ho_tries=$((ho_tries + 1))
    if [ -e claim/tombstone ]; then
      ho_say launch tombstone
      return
    fi
    if [ "$ho_tries" -gt 200 ]; then
      ho_say launch unknown
      return
    fi
    ho_rest
  done
  ho_say launch started
  ho_say_file started started
}

# ho_is_starting DIR: whether a claimed job that has not started may still do so: its runner or its launch is there. One
# that was left just now gets a moment, of ho_moments for all of them.
ho_is_starting() {
  while ! [ -f "$1/started" ]; do
    ho_judge_text "$(ho_link_text "$1/claim/runner")"
    if [ "$ho_alive" = yes ]; then return 0; fi
    # A launch by an older script names nobody.
    ho_judge "$1/claim/launcher"
    case $ho_alive in
      no) ;;
      reboot) return 1 ;;
      *) return 0 ;;
    esac
    if [ "$ho_moments" -le 0 ]; then return 1; fi
    ho_moments=$((ho_moments - 1))
    ho_rest
  done
}

# Sets ho_others, how many other live jobs this host has: claimed, not ended, and neither their runner nor who launches
# them known to be gone.
ho_count_others() {
  ho_others=0
  ho_moments=40
  for ho_other in ../*/claim; do
    ho_other=${ho_other%/claim}
    if [ "${ho_other#../}" = "${ho_dir##*/}" ] || ! [ -d "$ho_other/claim" ]; then continue; fi
    if [ -e "$ho_other/exit" ] || [ -e "$ho_other/claim/tombstone" ] || ! ho_is_starting "$ho_other"; then continue; fi
    if [ -f "$ho_other/started" ]; then
      ho_judge_job "$ho_other"
      case $ho_alive in
        no | reboot) continue ;;
      esac
    fi
    ho_others=$((ho_others + 1))
  done
}

# Of several launches on a host one counts at a time. A launch holds the lock for a moment: one that holds it for 20
# seconds stands still, and has to ask again for its turn when it goes on.
ho_take_turn() {
  ho_tries=0
  ho_stood=
  until ho_lock ../../launching; do
    if [ "$ho_number" != "$ho_stood" ]; then
      ho_stood=$ho_number
      ho_tries=0
    fi
    ho_tries=$((ho_tries + 1))
    if [ "$ho_tries" -gt 400 ]; then ho_lock ../../launching forced && return; fi
    ho_rest
  done
}

ho_end_turn() {
  if [ -n "$ho_most" ]; then ho_unlock ../../launching; fi
  trap - EXIT
}

# Whether the host has room for this job, which is claimed; ho_others says how many there are.
ho_has_room() {
  ho_count_others
  until ho_holds ../../launching; do
    ho_take_turn
    ho_count_others
  done
  [ "$ho_others" -lt "$ho_most" ]
}

# A file that is not whole, of those that a launch needs; nothing where all are.
ho_incomplete() {
  ho_needed='prompt.txt params/session params/directory params/opencode params/size params/job'
  ho_kind=$(ho_param kind)
  if [ "$ho_kind" != spawn ]; then ho_needed="$ho_needed session.json"; fi
  for ho_file in $ho_needed; do
    if ! [ -f "$ho_file" ]; then
      printf '%s\n' "$ho_file"
      return
    fi
  done
  if [ "$ho_kind" != spawn ] && [ "$(ho_size session.json)" != "$(ho_param size)" ]; then printf 'session.json\n'; fi
}

# Takes the claim and starts the runner, where there is room for it. Fails when somebody else has the claim.
ho_claim_and_start() {
  ho_held=
  ho_most=$(ho_param max_jobs)
  case $ho_most in
    *[!0-9]*) ho_most= ;;
  esac
  if [ -n "$ho_most" ]; then
    trap 'ho_unlock ../../launching' EXIT
    ho_take_turn
  fi
  if ! ho_error=$(mkdir claim 2>&1); then
    ho_end_turn
    return 1
  fi
  if ! ho_put claim/nonce "$ho_mine" 2>/dev/null; then
    rm -f claim/nonce.part
    rmdir claim
    ho_say launch unwritable
    return
  fi
  ho_know_me
  ho_put claim/launcher "$ho_me" 2>/dev/null
  if [ -n "$ho_most" ] && ! ho_has_room; then
    # Nothing runs and nothing will: the claim was ours.
    ho_put claim/tombstone "full $ho_others"
    ho_say launch full
    ho_say count "$ho_others"
    return
  fi
  ho_detach run
  ho_end_turn
  ho_await_started
}

ho_main_launch() {
  ho_mine=$1
  if [ -z "$ho_mine" ]; then
    ho_say launch refused
    return
  fi
  if ! [ -e claim ]; then
    ho_file=$(ho_incomplete)
    if [ -n "$ho_file" ]; then
      ho_say launch incomplete
      ho_say what "$ho_file"
      return
    fi
    if ho_claim_and_start; then return; fi
    if ! [ -d claim ]; then
      ho_say launch unwritable
      ho_say what "$(ho_first_line "$ho_error")"
      return
    fi
  fi
  # Another launch may be between its mkdir and its nonce.
  ho_tries=0
  while [ "$(ho_claimed_by)" = empty ] && [ "$ho_tries" -lt 40 ]; do
    ho_tries=$((ho_tries + 1))
    ho_rest
  done
  case $(ho_claimed_by) in
    tombstone)
      ho_others=$(sed -n 's/^full //p' claim/tombstone)
      if [ -n "$ho_others" ]; then
        ho_say launch full
        ho_say count "$ho_others"
      else
        ho_say launch tombstone
      fi
      ;;
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

# Buries a job that was claimed and has not started, unless its runner is faster.
ho_main_bury() {
  if [ -f started ]; then
    ho_say bury started
    return
  fi
  if ! ho_take_runner buried && [ "$(ho_link_text claim/runner)" != buried ]; then
    ho_judge_text "$(ho_link_text claim/runner)"
    # It may have written 'started' and gone since that was looked for.
    case $ho_alive in
      no | reboot) if [ -f started ]; then ho_alive=yes; fi ;;
      *) ho_alive=yes ;;
    esac
    if [ "$ho_alive" = yes ]; then
      ho_say bury started
      return
    fi
  fi
  if [ -e claim/tombstone ] || ho_put claim/tombstone settled 2>/dev/null; then
    ho_say bury 'done'
  else
    ho_say bury unwritable
  fi
}
