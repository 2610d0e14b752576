/* Runs a program in the console that this one runs in, as whoever owns the console sees it:

     console.exe SCREEN EVENT SIGN PROGRAM [ARGUMENT...]

   EVENT is a number: once the file SIGN is there, the program gets that event of the console, by the way on which the
   console's host hands it on: a thread at CtrlRoutine. (Wine 8 knows no event but Ctrl-C in GenerateConsoleCtrlEvent, nor
   has its console one for the end of a terminal.) It can be a word too: `none`; or `old`, for a console that refuses every
   change of its mode, as one that knows no escape sequences refuses to act on them.
   When the program has ended, what the console shows goes into the file SCREEN, in UTF-8, one line a row, unless that
   is `-`; and this one ends as the program has ended. (Wine 8 can end by a signal of its own while a program with
   threads exits. Whoever is not one of Wine's loses the exit code then, and this one does not.)
   https://learn.microsoft.com/en-us/windows/console/handlerroutine */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

/* What this one's own failures end with. */
#define BROKEN 99
#define WAIT_FOR_SIGN 300000
#define STEP 50
#define DEBUGGER_LIMIT 60000

static int fail(const char *what) {
  fprintf(stderr, "console.exe: %s: error %lu\n", what, GetLastError());
  return BROKEN;
}

/* What follows the first COUNT words of a command line; none of them has a quote within it. */
static WCHAR *after(WCHAR *line, int count) {
  while (count-- > 0) {
    BOOL quoted = FALSE;
    for (; *line && (quoted || (*line != L' ' && *line != L'\t')); line++)
      if (*line == L'"')
        quoted = !quoted;
    while (*line == L' ' || *line == L'\t')
      line++;
  }
  return line;
}

/* Events are for the program; this one waits for its end. A handler is not handed on, as ignoring Ctrl-C would be. */
static BOOL WINAPI stay(DWORD event) {
  (void)event;
  return TRUE;
}

static BOOL send_event(HANDLE process, DWORD_PTR event) {
  FARPROC routine = GetProcAddress(GetModuleHandleW(L"kernel32.dll"), "CtrlRoutine");
  if (!routine)
    routine = GetProcAddress(GetModuleHandleW(L"kernelbase.dll"), "CtrlRoutine");
  if (!routine)
    return FALSE;
  HANDLE thread = CreateRemoteThread(process, NULL, 0, (LPTHREAD_START_ROUTINE)(void *)routine, (void *)event, 0, NULL);
  return thread && CloseHandle(thread);
}

/* Lets a process that this one debugs load its libraries, has SetConsoleMode refuse in it, and leaves it alone. */
static BOOL make_old(HANDLE process) {
  /* xor eax, eax; ret */
  static const BYTE refuse[] = {0x31, 0xc0, 0xc3};
  void *place = (void *)GetProcAddress(GetModuleHandleW(L"kernel32.dll"), "SetConsoleMode");
  DEBUG_EVENT event;
  while (WaitForDebugEvent(&event, DEBUGGER_LIMIT)) {
    BOOL loaded = event.dwDebugEventCode == EXCEPTION_DEBUG_EVENT;
    if (event.dwDebugEventCode == CREATE_PROCESS_DEBUG_EVENT && event.u.CreateProcessInfo.hFile)
      CloseHandle(event.u.CreateProcessInfo.hFile);
    if (event.dwDebugEventCode == LOAD_DLL_DEBUG_EVENT && event.u.LoadDll.hFile)
      CloseHandle(event.u.LoadDll.hFile);
    if (loaded && !WriteProcessMemory(process, place, refuse, sizeof refuse, NULL))
      return FALSE;
    if (!ContinueDebugEvent(event.dwProcessId, event.dwThreadId, DBG_CONTINUE))
      return FALSE;
    if (loaded)
      return DebugSetProcessKillOnExit(FALSE) && DebugActiveProcessStop(event.dwProcessId);
  }
  return FALSE;
}

static BOOL write_screen(const WCHAR *path) {
  HANDLE console = CreateFileW(L"CONOUT$", GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                               OPEN_EXISTING, 0, NULL);
  CONSOLE_SCREEN_BUFFER_INFO info;
  if (console == INVALID_HANDLE_VALUE || !GetConsoleScreenBufferInfo(console, &info))
    return FALSE;
  HANDLE file = CreateFileW(path, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
  WCHAR *row = malloc(info.dwSize.X * sizeof *row);
  char *text = malloc(info.dwSize.X * 4 + 1);
  if (file == INVALID_HANDLE_VALUE || !row || !text)
    return FALSE;
  for (COORD at = {0, 0}; at.Y <= info.dwCursorPosition.Y; at.Y++) {
    DWORD length, written;
    if (!ReadConsoleOutputCharacterW(console, row, info.dwSize.X, at, &length))
      return FALSE;
    while (length > 0 && row[length - 1] == L' ')
      length--;
    int bytes = length ? WideCharToMultiByte(CP_UTF8, 0, row, length, text, info.dwSize.X * 4, NULL, NULL) : 0;
    text[bytes++] = '\n';
    if (!WriteFile(file, text, bytes, &written, NULL))
      return FALSE;
  }
  return CloseHandle(file);
}

int wmain(int count, WCHAR **arguments) {
  if (count < 5)
    return fail("needs SCREEN EVENT SIGN PROGRAM");
  const WCHAR *screen = arguments[1], *sign = arguments[3];
  BOOL old = lstrcmpW(arguments[2], L"old") == 0;
  /* No event has the number 0 that a word makes here, but Ctrl-C, which is a key. */
  int event = _wtoi(arguments[2]);
  STARTUPINFOW startup = {.cb = sizeof startup};
  PROCESS_INFORMATION process;
  DWORD code;
  if (!SetConsoleCtrlHandler(stay, TRUE))
    return fail("SetConsoleCtrlHandler");
  if (!CreateProcessW(NULL, after(GetCommandLineW(), 4), NULL, NULL, TRUE, old ? DEBUG_ONLY_THIS_PROCESS : 0, NULL, NULL,
                      &startup, &process))
    return fail("CreateProcess");
  if (old && !make_old(process.hProcess))
    return fail("SetConsoleMode");
  for (int waited = 0; event > 0; waited += STEP) {
    if (GetFileAttributesW(sign) != INVALID_FILE_ATTRIBUTES) {
      if (!send_event(process.hProcess, event))
        return fail("CtrlRoutine");
      break;
    }
    if (waited >= WAIT_FOR_SIGN || WaitForSingleObject(process.hProcess, STEP) == WAIT_OBJECT_0)
      break;
  }
  WaitForSingleObject(process.hProcess, INFINITE);
  if (!GetExitCodeProcess(process.hProcess, &code))
    return fail("GetExitCodeProcess");
  if (lstrcmpW(screen, L"-") != 0 && !write_screen(screen))
    return fail("the screen");
  return (int)code;
}
