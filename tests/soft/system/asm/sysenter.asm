; SYSENTER and SYSEXIT in 32-bit protected mode and from 64-bit mode.
%include "common.inc"
  to_protected
  ; SYSENTER wants CS, SS, user CS, user SS in a row: 60, 68, 70, 78
  mov eax, [gdt + CODE32]
  mov [gdt_spare], eax
  mov eax, [gdt + CODE32 + 4]
  mov [gdt_spare + 4], eax
  mov ecx, 0x174
  mov eax, SPARE
  xor edx, edx
  wrmsr
  inc ecx
  mov eax, STACK0
  wrmsr
  inc ecx
  mov eax, entry
  wrmsr
  sti
  mov ecx, STACK3
  mov edx, user
  sysexit
user:
  mov eax, cs
  result 0, eax
  mov eax, ss
  result 1, eax
  result 2, esp
  sysenter
entry:
  mov eax, cs
  result 3, eax
  mov eax, ss
  result 4, eax
  result 5, esp
  pushfd
  pop eax
  result 6, eax
  finish
  data_tables
