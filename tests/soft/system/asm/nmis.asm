; NMIs in real mode; the handler stands four bytes in and counts.
%include "common.inc"
  jmp short start
  align 4
handler:
  inc dword [cs:RESULTS]
  iret
start:
  nop
  finish
