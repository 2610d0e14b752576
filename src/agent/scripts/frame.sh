# Answers are lines "NONCE key=value": what a login shell or its background jobs print beside them does no harm.
ho_nl='
'
ho_begin() { printf '\n%s begin\n' "$ho_nonce"; }
ho_end() { printf '%s end\n' "$ho_nonce"; }
ho_say() {
  case $2 in
    *"$ho_nl"*) printf '%s unprintable=%s\n' "$ho_nonce" "$1" ;;
    *) printf '%s %s=%s\n' "$ho_nonce" "$1" "$2" ;;
  esac
}
# The first line of a text, which may be an error message of any length.
ho_first_line() { printf '%s\n' "$1" | sed -n '1p' | cut -c 1-300; }
