package javafx.application;

import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Runs what is meant for the screen's thread on one thread, as JavaFX does. */
public class Platform {
    private static final ExecutorService SCREEN = Executors.newSingleThreadExecutor(task -> {
        Thread thread = new Thread(task, "screen");
        thread.setDaemon(true);
        return thread;
    });

    public static void runLater(Runnable task) {
        SCREEN.submit(task);
    }
}
