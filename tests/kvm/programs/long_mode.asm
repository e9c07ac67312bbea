; From real mode at 0:1000H to long mode, ring 0 and ring 3. Writes what it finds to the device at
; F0000000H, a quadword at a time, and ends with a write to F0000008H. Breakpoint exceptions lead from
; ring 3 to ring 0 (paravirtual back ends of KVM have no other way).
%define DEVICE 0xF0000000
bits 16
org 0x1000
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x1000
    cld
    ; Tables at 10000H: level 4, level 3, level 2 (2 MiB pages, the first 4 GiB at 12000H to 15FFFH).
    mov ax, 0x1000
    mov es, ax
    xor di, di
    xor eax, eax
    mov cx, 0x6000 / 4
    rep stosd
    mov dword [es:0], 0x11007
    mov dword [es:0x1000], 0x12007
    mov dword [es:0x1008], 0x13007
    mov dword [es:0x1010], 0x14007
    mov dword [es:0x1018], 0x15007
    mov di, 0x2000
    mov eax, 0x87               ; present, writable, user, large
    mov cx, 2048
.fill:
    mov [es:di], eax
    mov dword [es:di + 4], 0
    add eax, 0x200000
    add di, 8
    loop .fill
    lgdt [gdtr]
    mov eax, cr4
    or eax, 0x20                ; PAE
    mov cr4, eax
    mov eax, 0x10000
    mov cr3, eax
    mov ecx, 0xC0000080
    rdmsr
    or eax, 0x100               ; LME
    wrmsr
    mov eax, cr0
    or eax, 0x80000001          ; PG, PE
    mov cr0, eax
    jmp 0x08:entered

bits 64
entered:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov rsp, 0x9000
    ; The breakpoint's gate, which ring 3 may use.
    mov rax, back
    mov word [0x8000 + 3 * 16], ax
    mov word [0x8000 + 3 * 16 + 2], 0x08
    mov word [0x8000 + 3 * 16 + 4], 0xEE00
    shr rax, 16
    mov [0x8000 + 3 * 16 + 6], ax
    mov dword [0x8000 + 3 * 16 + 8], 0
    mov dword [0x8000 + 3 * 16 + 12], 0
    lidt [idtr]
    mov qword [0x7000 + 4], 0x9000  ; the task's RSP0
    mov ax, 0x28
    ltr ax

    mov rbx, DEVICE
    mov rax, 0x1122334455667788
    mov [rbx], rax              ; 1: a quadword
    mov dword [rbx + 0x10], 0x99AABBCC
    mov word [rbx + 0x14], 0xDDEE
    mov byte [rbx + 0x16], 0xFF
    mov rax, [rbx + 0x20]       ; 2: what is read comes back
    mov [rbx], rax

    ; 3: the same numbers in ring 3
    push 0x23                   ; SS
    push 0x8800                 ; RSP
    push 0x2                    ; RFLAGS
    push 0x1B                   ; CS
    mov rax, user
    push rax
    iretq

user:
    mov rcx, 1000
    xor rax, rax
.sum:
    add rax, rcx
    dec rcx
    jnz .sum
    mov rbx, DEVICE
    mov [rbx], rax
    int3

back:
    mov rax, [rsp + 8]          ; the interrupted CS
    mov rbx, DEVICE
    mov [rbx], rax
    mov qword [rbx + 8], 1
    hlt

align 8
gdt:
    dq 0
    dq 0x00AF9B000000FFFF       ; 08 code
    dq 0x00CF93000000FFFF       ; 10 data
    dq 0x00AFFB000000FFFF       ; 18 code, ring 3
    dq 0x00CFF3000000FFFF       ; 20 data, ring 3
    dq 0x0000890070000067       ; 28 task state at 7000H
    dq 0
gdtr:
    dw 7 * 8 - 1
    dd gdt
idtr:
    dw 0x1FF
    dq 0x8000
