/* The one function of bcryptprimitives.dll that Rust's standard library calls, for a Wine that has no such DLL
   (older than 9.1). It lies beside the programs under test and is no part of what is shipped.
   https://learn.microsoft.com/en-us/windows/win32/seccng/processprng */
#include <windows.h>

BOOLEAN WINAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) {
  while (length > 0) {
    ULONG part = length > 0x10000000 ? 0x10000000 : (ULONG)length;
    if (!SystemFunction036(data, part))
      return FALSE;
    data += part;
    length -= part;
  }
  return TRUE;
}
