package qupath.lib.io;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.util.List;

import stub.Objects;
import stub.PathObject;

/** Reads GeoJSON files. */
public class PathIO {
    public static List<PathObject> readObjects(File file) throws IOException {
        return Objects.parse(Files.readString(file.toPath()));
    }
}
