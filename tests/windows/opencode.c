/* A stand-in opencode.exe: starts the handover.exe beside it as the stand-in agent, with its own arguments as they
   were given, and ends as that ends. Like opencode as npm installs it, it is a wrapper around what works. */
#include <windows.h>

#define LENGTH 32768

int wmain(void) {
  static WCHAR program[LENGTH], line[LENGTH];
  DWORD length = GetModuleFileNameW(NULL, program, LENGTH), code = 1;
  while (length > 0 && program[length - 1] != L'\\')
    length--;
  lstrcpyW(program + length, L"handover.exe");

  /* What follows the program's own name on the command line. */
  const WCHAR *rest = GetCommandLineW();
  BOOL quoted = FALSE;
  for (; *rest && (quoted || (*rest != L' ' && *rest != L'\t')); rest++)
    if (*rest == L'"')
      quoted = !quoted;
  if (lstrlenW(program) + lstrlenW(rest) + 32 > LENGTH)
    return 1;
  lstrcpyW(line, L"\"");
  lstrcatW(line, program);
  lstrcatW(line, L"\" stand-in-agent");
  lstrcatW(line, rest);

  STARTUPINFOW startup = {.cb = sizeof startup};
  PROCESS_INFORMATION process;
  if (!CreateProcessW(program, line, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &process))
    return 1;
  WaitForSingleObject(process.hProcess, INFINITE);
  GetExitCodeProcess(process.hProcess, &code);
  return (int)code;
}
