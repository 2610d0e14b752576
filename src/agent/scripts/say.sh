# Follow-up messages. In the inbox a message is NUMBER.NAME.txt: numbered here when it is delivered, whichever machine
# it came from and whatever the clock there said.

# The places in the order in which a message moves: one that moves while they are listed is in a later one. What the
# shell found counts, although it may have moved since.
ho_is_delivered() {
  for ho_place in inbox/*."$1.txt" inbox.*/*."$1.txt"* delivered/*."$1.txt.done"; do
    case $ho_place in
      *'*'*) ;;
      *) return 0 ;;
    esac
  done
  return 1
}

# Sets ho_number to one behind those of all messages that were delivered before this one.
ho_take_number() {
  mkdir -p order
  ho_number=0
  for ho_each in order/*; do ho_number=$((ho_number + 1)); done
  until mkdir "order/$ho_number" 2>/dev/null; do
    # No room: two that are delivered at the same time may share it.
    [ -d "order/$ho_number" ] || break
    ho_number=$((ho_number + 1))
  done
  ho_number=$(printf '%06d' "$ho_number")
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
  if ! [ -d claim ] || [ -e claim/tombstone ]; then
    rm -f "say-$1.txt"
    ho_say say unlaunched
    return
  fi
  ho_tries=0
  ho_number=
  while :; do
    if ho_is_delivered "$1"; then
      ho_say say taken
      return
    fi
    if ! [ -f "say-$1.txt" ]; then
      if ho_is_delivered "$1"; then ho_say say taken; else ho_say say missing; fi
      return
    fi
    if [ -z "$ho_number" ]; then ho_take_number; fi
    if mv -f "say-$1.txt" "inbox/$ho_number.$1.txt" 2>/dev/null; then
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
  if ho_is_delivered "$1"; then
    ho_say say taken
  elif [ -f started ]; then
    ho_say say closed
  else
    ho_say say unlaunched
  fi
}
