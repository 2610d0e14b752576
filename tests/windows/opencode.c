/* A stand-in opencode.exe: starts the handover.exe beside it as the stand-in agent, with its own arguments as they
   were given, and ends as that ends. Like opencode as npm installs it, it is a wrapper around what works.
   It adds a line to the file that the variable CONSOLE_LOG names: how many processes share its console. */
#include <stdio.h>
#include <windows.h>

#define LENGTH 32768
#define PROCESSES 16

static void log_console(void) {
  WCHAR path[MAX_PATH];
  DWORD processes[PROCESSES], length = GetEnvironmentVariableW(L"CONSOLE_LOG", path, MAX_PATH);
  FILE *log = length > 0 && length < MAX_PATH ? _wfopen(path, L"a") : NULL;
  if (log) {
    fprintf(log, "%lu\n", GetConsoleProcessList(processes, PROCESSES));
    fclose(log);
  }
}

int wmain(void) {
  log_console();
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
