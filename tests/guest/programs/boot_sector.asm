; A boot sector that asks the BIOS for what boot loaders ask for, and tells the debug port (E9h) what
; it got. Ends the machine by isa-debug-exit at port F4h with 0 (status 1), or 1 (status 3).
bits 16
org 0x7C00

start:
        cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7C00
        sti
        mov [drive], dl

        mov si, hello
        call say
        mov al, [drive]
        call hexadecimal

        ; INT 10h: a mode, where it shows text, and the cursor after three characters.
        mov ax, 0x0003
        int 0x10
        mov cx, 3
.teletype:
        mov ax, 0x0E00 | 'L'
        xor bx, bx
        push cx
        int 0x10
        pop cx
        loop .teletype
        mov ah, 0x03
        xor bh, bh
        int 0x10                ; DL: column
        mov si, video
        call say
        mov al, dl
        call hexadecimal
        mov ax, 0xB800
        mov es, ax
        mov al, [es:0]          ; what stands in video memory
        call hexadecimal
        xor ax, ax
        mov es, ax

        ; INT 13h: the second sector, by CHS and by LBA.
        mov ax, 0x0201
        mov cx, 0x0002
        mov dh, 0
        mov dl, [drive]
        mov bx, 0x8000
        int 0x13
        mov si, no_chs
        jc fail
        mov word [0x8200], 0
        mov ah, 0x42
        mov dl, [drive]
        mov si, packet
        int 0x13
        mov si, no_lba
        jc fail
        mov si, disk
        call say
        mov si, 0x8000
        call say
        mov si, 0x8200
        call say

        ; INT 15h: the entries of the memory map.
        xor ebx, ebx
        xor bp, bp
.map:
        mov eax, 0xE820
        mov edx, 0x534D4150
        mov ecx, 24
        mov di, 0x8400
        int 0x15
        jc .map_end
        inc bp
        test ebx, ebx
        jnz .map
.map_end:
        mov si, memory
        call say
        mov ax, bp
        call hexadecimal

        ; INT 16h: a key that a person types.
        mov si, key
        call say
        mov ah, 0
        int 0x16
        call hexadecimal
        mov si, bye
        call say
        mov al, 0
        out 0xF4, al
        jmp $

fail:
        call say
        mov al, 1
        out 0xF4, al
        jmp $

say:
        lodsb
        test al, al
        jz .end
        out 0xE9, al
        jmp say
.end:
        ret

hexadecimal:
        push ax
        mov cl, 4
        shr al, cl
        call .digit
        pop ax
        push ax
        call .digit
        pop ax
        ret
.digit:
        and al, 0x0F
        add al, '0'
        cmp al, '9'
        jbe .out
        add al, 7
.out:
        out 0xE9, al
        ret

drive:  db 0
hello:  db "drive ", 0
video:  db 10, "video ", 0
disk:   db 10, "disk ", 0
memory: db 10, "map ", 0
key:    db 10, "key ", 0
bye:    db 10, 0
no_chs: db 10, "no CHS", 10, 0
no_lba: db 10, "no LBA", 10, 0
packet: db 16, 0
        dw 1, 0x8200, 0
        dq 2

        times 510 - ($ - $$) db 0
        dw 0xAA55
second: db "two ", 0
        times 1024 - ($ - $$) db 0
third:  db "three", 0
        times 1536 - ($ - $$) db 0
