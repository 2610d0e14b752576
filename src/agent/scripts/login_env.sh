# Sets ho_timer, once: to be called before the first use in a subshell, which would forget what it found.
ho_find_timer() {
  if [ -z "${ho_timer:-}" ]; then
    if timeout 5 true >/dev/null 2>&1; then
      ho_timer=timeout
    elif perl -e 1 >/dev/null 2>&1; then
      ho_timer=perl
    else
      ho_timer=none
    fi
  fi
}

# ho_bounded SECONDS COMMAND...: ends the command after SECONDS, where the host has a way to do that.
ho_bounded() {
  ho_find_timer
  case $ho_timer in
    timeout) timeout "$@" ;;
    perl) perl -e 'alarm shift @ARGV; exec @ARGV or exit 127' "$@" ;;
    *)
      shift
      "$@"
      ;;
  esac
}

# ho_capture_login_env MARK: provider keys and PATH live in login profiles. Runs the login shell once and sets
# ho_login_env (a text for eval) and ho_login_umask; else fails with ho_login_why. The text stays in memory.
# shellcheck disable=SC2034
ho_capture_login_env() {
  ho_login_env=
  ho_login_umask=$(umask)
  case ${SHELL:-} in
    /*) ;;
    *)
      ho_login_why='SHELL is not set'
      return 1
      ;;
  esac
  if ! [ -x "$SHELL" ]; then
    ho_login_why='SHELL cannot be executed'
    return 1
  fi
  HANDOVER_MARK=$1
  export HANDOVER_MARK
  # One spelling that every shell family passes on unchanged: only single quotes around, none inside.
  # shellcheck disable=SC2016
  ho_inner='sh -c '\''printf "\n%s begin\n" "$HANDOVER_MARK"; umask; export -p; printf "\n%s end\n" "$HANDOVER_MARK"'\'
  case ${SHELL##*/} in
    csh | tcsh)
      # csh takes -l only as its single argument, so the login files are named here.
      set -- "$SHELL" -c "if (-r /etc/csh.login) source /etc/csh.login; if (-r ~/.login) source ~/.login; $ho_inner"
      ;;
    *) set -- "$SHELL" -l -c "$ho_inner" ;;
  esac
  ho_find_timer
  # sed ends at the closing mark: a daemon that a profile left behind with our pipe open cannot hold us.
  ho_captured=$(
    ho_bounded 20 "$@" </dev/null 2>/dev/null |
      ho_bounded 25 env LC_ALL=C sed -n "/^$HANDOVER_MARK begin\$/,/^$HANDOVER_MARK end\$/p;/^$HANDOVER_MARK end\$/q"
  )
  ho_mark=$HANDOVER_MARK
  unset HANDOVER_MARK
  case $ho_captured in
    "$ho_mark begin$ho_nl"*"$ho_nl$ho_mark end") ;;
    *)
      ho_login_why='the login shell did not answer'
      return 1
      ;;
  esac
  ho_captured=${ho_captured#*"$ho_nl"}
  case ${ho_captured%%"$ho_nl"*} in
    '' | *[!0-7]*) ;;
    *) ho_login_umask=${ho_captured%%"$ho_nl"*} ;;
  esac
  ho_captured=${ho_captured#*"$ho_nl"}
  ho_captured=${ho_captured%"$ho_nl$ho_mark end"}
  # An assignment that this shell refuses would end it: tried out in a child first.
  if ! (eval "$ho_captured") >/dev/null 2>&1; then
    ho_login_why='the environment of the login shell could not be read'
    return 1
  fi
  ho_login_env=$ho_captured
  ho_login_why=
}
