# Removes a job's directory, its claim last: who stands inside to launch meets the claim as long as there is anything
# left that could be launched.
ho_remove_job() {
  for ho_entry in "$1"/* "$1"/.[!.]*; do
    case $ho_entry in
      */claim) ;;
      *) rm -rf -- "$ho_entry" || return 1 ;;
    esac
  done
  rm -rf -- "$1"
}
